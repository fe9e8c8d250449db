/** How `arca` writes for people: names that can't harm a terminal, tables that fit it, colours where they are wanted. Pure. */
import { styleText } from 'node:util';
import stringWidth from 'string-width';

export type Colour = 'green' | 'yellow' | 'red' | 'dim' | 'bold';

export interface Style {
  readonly isColoured: boolean;
  /** Of the terminal; nothing: lines may be as long as they are. */
  readonly widthColumns: number | undefined;
}

export interface Column<Row> {
  readonly title: string;
  readonly text: (row: Row) => string;
  readonly colour?: (row: Row) => Colour | undefined;
  readonly align?: 'right';
}

const GAP = '  ';
/** A column is not made narrower than this. */
const LEAST_WIDTH = 6;
const ELLIPSIS = '…';

/**
 * Controls (C0, C1, delete), line and paragraph separators, and what turns the direction of text: a terminal would obey
 * them, or show something else than is there.
 */
const UNSAFE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;

/** The text, with everything that a terminal would obey written as an escape. */
export function visible(text: string): string {
  return text.replaceAll(UNSAFE, (character) => {
    switch (character) {
      case '\n':
        return '\\n';
      case '\r':
        return '\\r';
      case '\t':
        return '\\t';
      default:
        return `\\u{${character.codePointAt(0)?.toString(16)}}`;
    }
  });
}

/** For a terminal too: JSON.stringify leaves C1 controls and turns of direction as they are, and these are the same JSON. */
export function jsonText(value: unknown, indent?: number): string {
  const text = JSON.stringify(value, undefined, indent);
  // Its own line ends are no part of a string.
  return text.replaceAll(UNSAFE, (character) =>
    character === '\n' ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

export function coloured(text: string, colour: Colour | undefined, { isColoured }: Style): string {
  // Whether the terminal wants them is judged by whoever made the style.
  return isColoured && colour !== undefined ? styleText(colour, text, { validateStream: false }) : text;
}

/** Lines without trailing blanks, each at most as wide as the terminal. The widest columns give way first. */
export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[], style: Style): string[] {
  const texts = rows.map((row) => columns.map((column) => visible(column.text(row))));
  const natural = columns.map(({ title }, index) =>
    Math.max(stringWidth(title), ...texts.map((cells) => stringWidth(cells[index] ?? ''))),
  );
  const widths = fitted(natural, style.widthColumns);
  const line = (cells: readonly string[], colourOf: (index: number) => Colour | undefined): string => {
    const padded = cells.map((cell, index) => {
      const width = widths[index] ?? 0;
      const text = shortened(cell, width);
      const blanks = ' '.repeat(width - stringWidth(text));
      const shown = coloured(text, colourOf(index), style);
      if (columns[index]?.align === 'right') return blanks + shown;
      // The last column needs none behind it.
      return index === cells.length - 1 ? shown : shown + blanks;
    });
    return padded.join(GAP).trimEnd();
  };
  return [
    line(
      columns.map(({ title }) => title),
      () => 'bold',
    ),
    ...rows.map((row, at) => line(texts[at] ?? [], (index) => columns[index]?.colour?.(row))),
  ];
}

/** Pairs of a word and a text, one below the other. */
export function renderFields(fields: readonly (readonly [string, string])[], style: Style): string[] {
  const width = Math.max(...fields.map(([name]) => stringWidth(name)));
  return fields.map(([name, text]) => `${coloured(name.padEnd(width), 'dim', style)}${GAP}${visible(text)}`.trimEnd());
}

function fitted(natural: readonly number[], mostColumns: number | undefined): number[] {
  const widths = [...natural];
  const room = mostColumns === undefined ? Number.POSITIVE_INFINITY : mostColumns - GAP.length * (widths.length - 1);
  let excess = widths.reduce((sum, width) => sum + width, 0) - room;
  while (excess > 0) {
    const widest = Math.max(...widths);
    if (widest <= LEAST_WIDTH) break;
    widths[widths.indexOf(widest)] = widest - 1;
    excess--;
  }
  return widths;
}

/** Cut between what people see as characters. */
function shortened(text: string, mostColumns: number): string {
  if (stringWidth(text) <= mostColumns) return text;
  let kept = '';
  for (const { segment } of new Intl.Segmenter().segment(text)) {
    if (stringWidth(kept + segment) > mostColumns - 1) break;
    kept += segment;
  }
  return kept + ELLIPSIS;
}
