/** The tables of a run, as rows of text; the terminal and the HTML report show the same. Pure. */

import { METRICS, type MeasureInfo, type Metric, type Results } from '../model.js';
import type { Row } from '../must-reach.js';
import type { Summary } from '../summary.js';
import { formatAim, formatFloor, formatSpread, formatValue } from './format.js';

export interface Table {
  readonly title: string;
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** One table for each measure: contenders below one another, metrics side by side. */
export function measureTables(results: Results, summary: Summary, order: readonly string[]): readonly Table[] {
  return results.measures.flatMap((measure) => {
    const table = measureTable(measure, summary, order);
    return table.rows.length > 0 ? [table] : [];
  });
}

function measureTable(measure: MeasureInfo, summary: Summary, order: readonly string[]): Table {
  const cells = order.flatMap((contender) => summary.cell(measure.id, contender) ?? []);
  const all = Object.keys(METRICS) as Metric[];
  const used = all.filter((metric) => cells.some((cell) => cell.metrics[metric] !== undefined));
  const metrics = [measure.primary, ...used.filter((metric) => metric !== measure.primary)];
  return {
    title: `${measure.title}  [${measure.id}]`,
    header: ['', ...metrics.map((metric) => `${METRICS[metric].title} ${METRICS[metric].unit}`.trim())],
    rows: cells.map((cell) => [
      cell.contender,
      ...metrics.map((metric, index) => {
        const spread = cell.metrics[metric];
        if (spread) return formatSpread(metric, spread);
        return index === 0 && cell.errors.length > 0 ? 'failed' : '–';
      }),
    ]),
  };
}

export function mustReachTable(rows: readonly Row[]): Table {
  return {
    title: 'Must reach',
    header: ['measure', 'relation', 'at least', 'aim', 'here', 'verdict'],
    rows: rows.map((row) => [
      row.measure,
      row.relation,
      formatFloor(row),
      formatAim(row),
      formatValue(row),
      row.verdict,
    ]),
  };
}

/** For a page on a forge. */
export function renderMarkdown({ header, rows }: Table): string {
  const row = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [row(header), `|${header.map(() => '---').join('|')}|`, ...rows.map(row)].join('\n');
}

/** What ran before beside what ran now; medians, by measure and contender. */
export function comparisonTable(results: Results, before: Summary, now: Summary): Table {
  const rows = results.measures.flatMap(({ id, primary }) =>
    now.cells.flatMap((cell) => {
      const after = cell.measure === id ? cell.metrics[primary] : undefined;
      const earlier = before.cell(id, cell.contender)?.metrics[primary];
      if (!after || !earlier) return [];
      const change = (after.median / earlier.median - 1) * 100;
      const sign = change >= 0 ? '+' : '';
      return [
        [
          id,
          cell.contender,
          METRICS[primary].unit,
          formatSpread(primary, earlier),
          formatSpread(primary, after),
          Number.isFinite(change) ? `${sign}${change.toFixed(1)} %` : '–',
        ],
      ];
    }),
  );
  return { title: 'Before and now', header: ['measure', 'contender', 'unit', 'before', 'now', 'change'], rows };
}

/** For a terminal: the first column left, the others right, but for columns of words. */
export function renderText({ title, header, rows }: Table): string {
  const widths = header.map((head, column) => Math.max(head.length, ...rows.map((row) => (row[column] ?? '').length)));
  const isNumeric = (column: number): boolean => rows.every((row) => /^[\d–≥≤+-]/.test(row[column] ?? ''));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return column > 0 && isNumeric(column) ? cell.padStart(width) : cell.padEnd(width);
      })
      .join('  ')
      .trimEnd();
  return [title, `  ${line(header)}`, ...rows.map((row) => `  ${line(row)}`)].join('\n');
}
