import { describe, expect, it } from 'vitest';
import { applyUpdates, type MonitorSpec } from '../../src/ovsdb/monitor.js';
import { checkResults, OperationError } from '../../src/ovsdb/operations.js';
import { RpcError } from '../../src/ovsdb/rpc-error.js';
import {
  applyDifference,
  elements,
  integer,
  map,
  type Row,
  text,
  textMap,
  uuid,
  uuidText,
} from '../../src/ovsdb/values.js';

describe('values as they arrive', () => {
  it('reads a set of none, one (bare) and several', () => {
    expect(elements(['set', []])).toEqual([]);
    expect(elements(['uuid', 'x'])).toEqual([['uuid', 'x']]);
    expect(elements(7)).toEqual([7]);
    expect(elements(['set', [1, 2]])).toEqual([1, 2]);
    expect(elements(undefined)).toEqual([]);
  });

  it('reads optional columns, and those that ovsdb-server left out', () => {
    expect(integer(['set', []])).toBeUndefined();
    expect(integer(undefined)).toBeUndefined();
    expect(integer(-1)).toBe(-1);
    expect(text(undefined)).toBe('');
    expect(text('secure')).toBe('secure');
    expect(uuidText(uuid('a-b'))).toBe('a-b');
    expect(uuidText('a-b')).toBeUndefined();
    expect(textMap(map({ a: 'b' }))).toEqual({ a: 'b' });
    expect(textMap(undefined)).toEqual({});
  });

  it('applies differences as ovsdb-server(7) has them', () => {
    expect(applyDifference('plain', 100, ['set', []])).toEqual(['set', []]);
    expect(elements(applyDifference('set', uuid('a'), ['set', [uuid('b'), uuid('c')]]))).toEqual([
      uuid('a'),
      uuid('b'),
      uuid('c'),
    ]);
    expect(elements(applyDifference('set', ['set', [1, 2, 3]], ['set', [2, 4]]))).toEqual([1, 3, 4]);
    expect(textMap(applyDifference('map', map({ a: '1', b: '2' }), map({ a: '1', b: '3', c: '4' })))).toEqual({
      b: '3',
      c: '4',
    });
  });
});

describe('applyUpdates', () => {
  const spec: MonitorSpec = {
    Bridge: { columns: { name: 'plain', fail_mode: 'plain', ports: 'set' } },
    Port: { columns: { name: 'plain', tag: 'plain', external_ids: 'map' } },
    Interface: { columns: { name: 'plain', ofport: 'plain', error: 'plain' } },
  };
  const bridge = 'b02f506c-fe95-4677-bf4f-49dd914217fd';
  const port = '4ff184da-b430-4eae-b62e-1cfbd93a624f';
  const iface = 'ffef1c03-228f-4df6-8b3c-4ed43841d89e';

  it('follows what ovsdb-server 3.1 sent while a port came, changed and went', () => {
    const tables = new Map(Object.keys(spec).map((table) => [table, new Map<string, Row>()]));
    const apply = (json: string): void => applyUpdates(spec, tables, JSON.parse(json));
    apply(`{"Bridge":{"${bridge}":{"initial":{"name":"br-int","ports":["uuid","9aaaea72"]}}}}`);
    apply(
      `{"Interface":{"${iface}":{"insert":{"name":"tapZ"}}},"Port":{"${port}":{"insert":{"name":"tapZ","external_ids":["map",[["arca-owner","arca-relay"],["b","c"]]],"tag":100}}},"Bridge":{"${bridge}":{"modify":{"ports":["uuid","${port}"]}}}}`,
    );
    expect(elements(tables.get('Bridge')?.get(bridge)?.['ports'])).toEqual([uuid('9aaaea72'), uuid(port)]);
    apply(
      `{"Interface":{"${iface}":{"modify":{"ofport":-1,"error":"could not open network device tapZ (No such device)"}}}}`,
    );
    expect(tables.get('Interface')?.get(iface)).toEqual({
      name: 'tapZ',
      ofport: -1,
      error: 'could not open network device tapZ (No such device)',
    });
    apply(
      `{"Port":{"${port}":{"modify":{"tag":101,"external_ids":["map",[["arca-owner","arca-relay"],["b","x"],["d","e"]]]}}}}`,
    );
    const row = tables.get('Port')?.get(port);
    expect(row?.['tag']).toBe(101);
    expect(textMap(row?.['external_ids'])).toEqual({ b: 'x', d: 'e' });
    apply(`{"Port":{"${port}":{"modify":{"tag":["set",[]]}}}}`);
    expect(integer(tables.get('Port')?.get(port)?.['tag'])).toBeUndefined();
    apply(
      `{"Interface":{"${iface}":{"delete":null}},"Port":{"${port}":{"delete":null}},"Bridge":{"${bridge}":{"modify":{"ports":["uuid","${port}"]}}}}`,
    );
    expect(tables.get('Port')?.size).toBe(0);
    expect(tables.get('Interface')?.size).toBe(0);
    expect(elements(tables.get('Bridge')?.get(bridge)?.['ports'])).toEqual([uuid('9aaaea72')]);
    apply(`{"Bridge":{"${bridge}":{"modify":{"fail_mode":"secure"}}}}`);
    expect(text(tables.get('Bridge')?.get(bridge)?.['fail_mode'])).toBe('secure');
    apply(`{"Bridge":{"${bridge}":{"modify":{"fail_mode":["set",[]]}}}}`);
    expect(text(tables.get('Bridge')?.get(bridge)?.['fail_mode'])).toBe('');
  });

  it('leaves alone what it did not ask for, and what is no update', () => {
    const tables = new Map([['Port', new Map<string, Row>()]]);
    for (const odd of [null, 7, [], { Other: { x: { insert: {} } } }, { Port: null }, { Port: { x: null } }]) {
      applyUpdates(spec, tables, odd);
    }
    expect(tables.get('Port')?.size).toBe(0);
  });
});

describe('checkResults', () => {
  const failure = (results: string, operationCount = 2): unknown => {
    try {
      return checkResults(operationCount, JSON.parse(results));
    } catch (error) {
      return error;
    }
  };

  it('finds the error of one operation, in a successful answer', () => {
    expect(failure('[{"details":"\\"wait\\" timed out after 500 ms","error":"timed out"}]', 1)).toMatchObject({
      name: 'OperationError',
      index: 0,
      error: 'timed out',
    });
    const parse =
      '[{"syntax":"{}","details":"Parsing ovsdb operation 1 of 1 failed: No table named Nope.","error":"syntax error"}]';
    expect(failure(parse, 1)).toBeInstanceOf(OperationError);
  });

  it('finds the error of the commit, behind those of the operations', () => {
    const results =
      '[{"count":1},{"details":"cannot delete Port row 9aaa because of 1 remaining reference(s)","error":"referential integrity violation"}]';
    expect(failure(results, 1)).toMatchObject({ index: 1, error: 'referential integrity violation' });
  });

  it('finds the error in front of operations that were not tried', () => {
    expect(failure('[{"error":"timed out"},null]')).toMatchObject({ index: 0 });
  });

  it('gives results, and refuses what is none', () => {
    expect(failure('[{"count":1},{"rows":[]}]')).toEqual([{ count: 1 }, { rows: [] }]);
    expect(failure('{}')).toBeInstanceOf(RpcError);
    expect(failure('[{}]')).toBeInstanceOf(RpcError);
  });
});
