/** How `arca state` shows plans and differences to people. Pure. */
import { type Change, type ChangeKind, type FieldValue, summaryOf, summaryText } from '../../state/changes.js';
import type { Difference } from '../../state/verify.js';
import { type Colour, coloured, type Style, visible } from './text.js';

const SIGNS: Readonly<Record<ChangeKind, readonly [sign: string, colour: Colour]>> = {
  create: ['+', 'green'],
  update: ['~', 'yellow'],
  delete: ['-', 'red'],
};

export const NO_CHANGES = 'No changes: everything is as the file says.';

/** As terraform shows it: a line for each thing, one for each of its fields, and the sum. */
export function renderPlan(changes: readonly Change[], style: Style): string[] {
  if (changes.length === 0) return [NO_CHANGES];
  return [...changes.flatMap((change) => renderChange(change, style)), '', `Plan: ${summaryText(summaryOf(changes))}.`];
}

function renderChange({ kind, path, fields, note }: Change, style: Style): string[] {
  const [sign, colour] = SIGNS[kind];
  const head = coloured(`${sign} ${visible(path)}`, colour, style);
  const notes = note === undefined ? [] : [coloured(`    # ${visible(note)}`, 'dim', style)];
  return [
    head,
    ...notes,
    ...fields.map(({ name, before, after }) => {
      const value = kind === 'create' ? valueText(after) : `${valueText(before)} -> ${valueText(after)}`;
      return `    ${visible(`${name} = ${value}`)}`;
    }),
  ];
}

function valueText(value: FieldValue | undefined): string {
  if (value === undefined) return '(none)';
  if (typeof value === 'object') return `[${value.join(', ')}]`;
  return String(value);
}

export function renderDifferences(differences: readonly Difference[], style: Style): string[] {
  return differences.map(({ path, what }) => `${coloured('!', 'red', style)} ${visible(`${path}: ${what}`)}`);
}
