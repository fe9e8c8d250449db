/** The whole run as one page that needs nothing else. Pure. */
import type { Results } from '../model.js';
import type { Row } from '../must-reach.js';
import { describeNoise, type Noise, type Summary } from '../summary.js';
import type { Chart } from './charts.js';
import { escapeXml } from './svg.js';
import { measureTables, mustReachTable, type Table } from './tables.js';

export interface Report {
  readonly results: Results;
  readonly summary: Summary;
  readonly noise: Noise;
  readonly rows: readonly Row[];
  readonly charts: readonly Chart[];
  /** Contenders as tables and charts show them. */
  readonly order: readonly string[];
}

const STYLE = `
:root { color-scheme: light dark; --line: #8c959f55; --soft: #8c959f22; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin-bottom: .3rem; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.words th, .words td { text-align: left; }
.banner { padding: .6rem 1rem; border-left: 4px solid #bf8700; background: var(--soft); }
svg { max-width: 100%; height: auto; margin: .8rem 0; }
pre { overflow-x: auto; font-size: 12px; background: var(--soft); padding: .6rem; }
.missed { color: #cf222e; font-weight: 600; } .reached { color: #1a7f37; font-weight: 600; }
`;

export function renderHtml(report: Report): string {
  const { results, noise, rows, charts, summary, order } = report;
  const { machine, options } = results;
  const commandLine = ['npm run bench --', ...options.commandLine].join(' ');
  return [
    '<!doctype html><html lang="en"><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>Benchmark ${escapeXml(results.startedAt)}</title><style>${STYLE}</style>`,
    `<h1>Benchmark of ${escapeXml(results.startedAt)}</h1>`,
    noise.tooNoisy ? banner(noise) : '',
    `<p>${options.rounds} rounds, contenders interleaved; medians, and half of the interquartile range as ±. `,
    `${escapeXml(machine.cpu)}, ${machine.cpuCount} CPUs, Linux ${escapeXml(machine.kernel)}, `,
    `commit ${escapeXml(machine.commit)}. Made by <code>${escapeXml(commandLine)}</code>.</p>`,
    `<h2>Must reach</h2>${renderTable(mustReachTable(rows), 'words', true)}`,
    '<h2>Charts</h2>',
    ...charts.map(({ svg }) => svg),
    '<h2>Measures</h2>',
    ...measureTables(results, summary, order).map((table) => renderTable(table, '')),
    `<h2>Contenders</h2>${renderContenders(results)}`,
    renderNotes(results, noise),
    `<h2>Versions</h2>${renderPairs({ ...machine.versions, autogroup: machine.autogroup, 'TCP congestion control': machine.congestionControl })}`,
    '<h2>Commands</h2>',
    ...Object.entries(results.commands).map(
      ([key, lines]) => `<h3>${escapeXml(key)}</h3><pre>${escapeXml(lines.join('\n'))}</pre>`,
    ),
    '</html>\n',
  ].join('\n');
}

function banner({ reasons }: Noise): string {
  return `<p class="banner"><strong>Too noisy for a conclusion.</strong> ${escapeXml(reasons.join('; '))}.</p>`;
}

function renderTable({ title, header, rows }: Table, style: string, bare = false): string {
  const row = (cells: readonly string[], tag: 'td' | 'th'): string =>
    `<tr>${cells.map((cell) => `<${tag}${classOf(cell)}>${escapeXml(cell)}</${tag}>`).join('')}</tr>`;
  const heading = bare ? '' : `<h3>${escapeXml(title)}</h3>`;
  return `${heading}<div class="wide"><table class="${style}">${row(header, 'th')}${rows.map((cells) => row(cells, 'td')).join('')}</table></div>`;
}

function classOf(cell: string): string {
  if (cell === 'missed') return ' class="missed"';
  return cell === 'reached' || cell === 'aim reached' ? ' class="reached"' : '';
}

function renderContenders({ contenders }: Results): string {
  const rows = contenders.map(({ name, description, missing }) => [name, description, missing ?? 'ran']);
  return renderTable({ title: '', header: ['name', 'what it is', ''], rows }, 'words', true);
}

function renderNotes({ notes }: Results, { sources }: Noise): string {
  const lines = [...notes, ...sources.map(describeNoise)];
  if (lines.length === 0) return '';
  return `<h2>Not measured, and noise</h2><ul>${lines.map((one) => `<li>${escapeXml(one)}</li>`).join('')}</ul>`;
}

function renderPairs(pairs: Readonly<Record<string, string>>): string {
  return renderTable({ title: '', header: ['', ''], rows: Object.entries(pairs) }, 'words', true);
}
