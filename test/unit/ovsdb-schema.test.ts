import { describe, expect, it } from 'vitest';
import { isMatch } from '../../src/ovsdb/conditions.js';
import { type Condition, createUuidNames } from '../../src/ovsdb/operations.js';
import { kindOf, monitorSpecOf, parseSchema, plainRow, plainValue } from '../../src/ovsdb/schema.js';
import { map, set, uuid } from '../../src/ovsdb/values.js';

const SCHEMA = {
  name: 'X',
  version: '1.2.3',
  cksum: '1 2',
  tables: {
    T: {
      maxRows: 1,
      isRoot: true,
      indexes: [['name']],
      columns: {
        name: { type: 'string', mutable: false },
        tag: { type: { key: { type: 'integer', minInteger: 0, maxInteger: 4095 }, min: 0, max: 1 } },
        ports: { type: { key: { type: 'uuid', refTable: 'T' }, min: 0, max: 'unlimited' } },
        friend: { type: { key: { type: 'uuid', refTable: 'T', refType: 'weak' }, min: 0 } },
        ids: { type: { key: 'string', value: 'string', min: 0, max: 'unlimited' }, ephemeral: true },
        mode: { type: { key: { type: 'string', enum: ['set', ['a', 'b']] } } },
        on: { type: 'boolean' },
        load: { type: 'real' },
      },
    },
  },
};

describe('parseSchema', () => {
  const schema = parseSchema(SCHEMA);
  const table = schema.tables.get('T');
  if (table === undefined) throw new Error('no table T');

  it('reads tables and columns', () => {
    expect(schema).toMatchObject({ name: 'X', version: '1.2.3', cksum: '1 2' });
    expect(table).toMatchObject({ maxRows: 1, isRoot: true, indexes: [['name']] });
    expect(table.columns.get('name')).toEqual({
      type: { key: { type: 'string' }, min: 1, max: 1 },
      isEphemeral: false,
      isMutable: false,
    });
    expect(table.columns.get('tag')?.type).toEqual({
      key: { type: 'integer', minInteger: 0, maxInteger: 4095 },
      min: 0,
      max: 1,
    });
    expect(table.columns.get('ports')?.type.key).toEqual({ type: 'uuid', refTable: 'T', refType: 'strong' });
    expect(table.columns.get('friend')?.type.key).toMatchObject({ refType: 'weak' });
    expect(table.columns.get('mode')?.type.key.enum).toEqual(['a', 'b']);
    expect(table.columns.get('ids')?.isEphemeral).toBe(true);
  });

  it('makes the spec of a monitor', () => {
    expect(monitorSpecOf(schema, { T: ['name', 'tag', 'ports', 'ids', '_uuid'] })).toEqual({
      T: { columns: { name: 'plain', tag: 'plain', ports: 'set', ids: 'map', _uuid: 'plain' } },
    });
    expect(Object.keys(monitorSpecOf(schema, { T: undefined })['T']?.columns ?? {})).toHaveLength(8);
    expect(() => monitorSpecOf(schema, { U: undefined })).toThrow(/no table U/);
    expect(() => monitorSpecOf(schema, { T: ['nosuch'] })).toThrow(/no column nosuch/);
    expect(kindOf({ key: { type: 'string' }, min: 0, max: 3 })).toBe('set');
  });

  it('makes plain values of rows, however many elements there are', () => {
    const row = {
      _uuid: uuid('u'),
      name: 'n',
      tag: set([]),
      ports: uuid('p'),
      ids: map({ a: 'b' }),
      on: true,
      load: 0.5,
    };
    expect(plainRow('T', table, row)).toEqual({
      ...{ _uuid: 'u', name: 'n', tag: undefined, ports: ['p'], ids: new Map([['a', 'b']]), on: true, load: 0.5 },
    });
    expect(plainRow('T', table, { tag: 7, ports: set([]) })).toEqual({ tag: 7, ports: [] });
    expect(plainRow('T', table, { ports: set([uuid('p'), uuid('q')]) })).toEqual({ ports: ['p', 'q'] });
  });

  it('knows the defaults of columns that were left out', () => {
    const defaults = [...table.columns].map(([name, { type }]) => [name, plainValue(type, undefined)]);
    expect(Object.fromEntries(defaults)).toEqual({
      ...{ name: '', tag: undefined, ports: [], friend: undefined, ids: new Map(), mode: '', on: false, load: 0 },
    });
  });

  it('refuses values that are not of the type', () => {
    expect(() => plainRow('T', table, { tag: 'seven' })).toThrow(/"seven" where the schema has integer/);
    expect(() => plainRow('T', table, { ports: 'p' })).toThrow(/uuid/);
    expect(() => plainRow('T', table, { nosuch: 1 })).toThrow(/no column nosuch/);
  });

  it.each([
    null,
    [],
    {},
    { name: 'X' },
    { name: 'X', tables: { T: {} } },
    { name: 'X', tables: { T: { columns: { c: {} } } } },
  ])('refuses %j', (json) => expect(() => parseSchema(json)).toThrow(/can not be read/));
});

describe('createUuidNames', () => {
  it('gives legal names, one for one text', () => {
    const name = createUuidNames();
    const texts = ['br-int', 'br.int', 'br_int', 'vmbr0', '0', '', 'ä', 'a b', 'br_int_2', 'br-int\n'];
    const names = texts.map(name);
    for (const made of names) expect(made).toMatch(/^[A-Za-z_][A-Za-z0-9_]*$/);
    expect(new Set(names).size).toBe(texts.length);
    expect(texts.map(name)).toEqual(names);
  });
});

describe('isMatch', () => {
  const row = { name: 'a', tag: 5, none: set([]), set: set([1, 2]), ids: map({ k: 'v', l: 'w' }), _uuid: uuid('u') };
  it.each<[Condition, boolean]>([
    [['name', '==', 'a'], true],
    [['name', '!=', 'a'], false],
    [['_uuid', '==', uuid('u')], true],
    [['set', '==', set([2, 1])], true],
    [['set', '==', set([1])], false],
    [['set', 'includes', 2], true],
    [['set', 'includes', set([2, 3])], false],
    [['set', 'excludes', set([3])], true],
    [['set', 'excludes', set([2, 3])], false],
    [['ids', 'includes', map({ k: 'v' })], true],
    [['ids', 'includes', map({ k: 'w' })], false],
    [['tag', '<', 6], true],
    [['tag', '>=', 6], false],
    [['tag', '<=', 5], true],
    [['tag', '>', 5], false],
    [['none', '<', 5], false],
    [['none', '==', set([])], true],
  ])('%j: %s', (condition, expected) => expect(isMatch(row, [condition])).toBe(expected));

  it('wants one of several, and takes any row without', () => {
    expect(isMatch(row, [])).toBe(true);
    expect(
      isMatch(row, [
        ['name', '==', 'b'],
        ['tag', '==', 5],
      ]),
    ).toBe(true);
    expect(
      isMatch(row, [
        ['name', '==', 'b'],
        ['tag', '==', 6],
      ]),
    ).toBe(false);
  });
});
