import { describe, expect, it } from 'vitest';
import { readTarget, styleOf } from '../../src/cli/arca/session.js';
import { type Column, jsonText, renderFields, renderTable, visible } from '../../src/cli/arca/text.js';

const PLAIN = { isColoured: false, widthColumns: undefined };

describe('visible', () => {
  it.each([
    ['plain', 'plain'],
    ['naïve ☃ 網 👩‍👩‍👧', 'naïve ☃ 網 👩‍👩‍👧'],
    ['\u001b[31mred\u001b[0m', '\\u{1b}[31mred\\u{1b}[0m'],
    ['\u009b31m', '\\u{9b}31m'],
    ['a\nb\rc\td\u0007', 'a\\nb\\rc\\td\\u{7}'],
    ['\u202egnp.exe', '\\u{202e}gnp.exe'],
    ['\u2028', '\\u{2028}'],
    ['\ud800', '\\u{d800}'],
  ])('%j', (text, expected) => {
    expect(visible(text)).toBe(expected);
  });
});

describe('jsonText', () => {
  it('says the same, and nothing that a terminal obeys', () => {
    const value = { name: '\u001b]0;x\u0007\u009b31m\u202e\ufeff', list: ['a\nb'] };
    for (const indent of [undefined, 2]) {
      const text = jsonText(value, indent);
      expect(JSON.parse(text)).toEqual(value);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
      expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e\ufeff]/);
    }
    expect(jsonText(value)).not.toContain('\n');
  });
});

describe('renderTable', () => {
  interface Row {
    readonly name: string;
    readonly count: number;
  }
  const columns: readonly Column<Row>[] = [
    { title: 'NAME', text: ({ name }) => name },
    { title: 'COUNT', text: ({ count }) => String(count), align: 'right' },
    { title: 'STATE', text: () => 'ok', colour: () => 'green' },
  ];

  it('aligns, also names that are wide', () => {
    const rows = [
      { name: 'a', count: 1 },
      { name: '網路', count: 100 },
    ];
    expect(renderTable(columns, rows, PLAIN)).toEqual(['NAME  COUNT  STATE', 'a         1  ok', '網路    100  ok']);
  });

  it('fits the terminal, and cuts the widest first', () => {
    const rows = [{ name: 'a-very-long-name-of-a-container', count: 1 }];
    const lines = renderTable(columns, rows, { isColoured: false, widthColumns: 30 });
    expect(lines).toEqual(['NAME              COUNT  STATE', 'a-very-long-nam…      1  ok']);
  });

  it('is as wide as it is where there is no terminal', () => {
    const name = 'n'.repeat(300);
    expect(renderTable(columns, [{ name, count: 1 }], PLAIN)[1]).toContain(name);
  });

  it('has colours only where they are wanted, and they take no room', () => {
    const rows = [{ name: 'a', count: 1 }];
    const [head = '', line = ''] = renderTable(columns, rows, { isColoured: true, widthColumns: 80 });
    expect(head).toContain('\u001b[1m');
    expect(line).toContain('\u001b[32mok\u001b[39m');
    expect(renderTable(columns, rows, PLAIN).join('')).not.toContain('\u001b');
  });

  it('shows names safely', () => {
    const [, line] = renderTable(columns, [{ name: '\u001b[2J', count: 1 }], PLAIN);
    expect(line).toBe('\\u{1b}[2J      1  ok');
  });
});

it('renderFields stands in two columns', () => {
  expect(
    renderFields(
      [
        ['a', '1'],
        ['long', 'x\ny'],
      ],
      PLAIN,
    ),
  ).toEqual(['a     1', 'long  x\\ny']);
});

describe('styleOf', () => {
  it('is coloured on a terminal only, and not with NO_COLOR', () => {
    const terminal = { isTTY: true, columns: 100 };
    expect(styleOf(terminal, {})).toEqual({ isColoured: true, widthColumns: 100 });
    expect(styleOf(terminal, { NO_COLOR: '1' }).isColoured).toBe(false);
    expect(styleOf(terminal, { NO_COLOR: '' }).isColoured).toBe(true);
    expect(styleOf(terminal, { TERM: 'dumb' }).isColoured).toBe(false);
    expect(styleOf({}, {})).toEqual({ isColoured: false, widthColumns: undefined });
  });
});

describe('readTarget', () => {
  it('takes the option, then ARCA_CONTROL, then the usual place', () => {
    const env = { ARCA_CONTROL: 'unix:/b' };
    expect(readTarget({ control: 'unix:/a' }, env)).toEqual({ path: '/a', timeoutMs: 60_000 });
    expect(readTarget({ timeout: '0.5' }, env)).toEqual({ path: '/b', timeoutMs: 500 });
    expect(readTarget({}, { ARCA_CONTROL: '' }).path).toBe('/run/arca/control.sock');
    expect(() => readTarget({ control: '/a' }, {})).toThrow('--control');
    expect(() => readTarget({}, { ARCA_CONTROL: 'tcp:x:1' })).toThrow('ARCA_CONTROL');
    expect(() => readTarget({ timeout: '0' }, {})).toThrow('--timeout');
  });
});
