import { describe, expect, it } from 'vitest';
import { ArcaError } from '../../src/errors.js';
import type { Change } from '../../src/state/changes.js';
import { takeBack } from '../../src/state/undoing.js';

const change = (kind: Change['kind'], path: string): Change => ({ kind, object: 'bridge', path, fields: [] });
const left = () => ({ timeoutMs: 1_000 });

describe('takeBack', () => {
  it('goes backwards, puts back what went with it only then, and says that nothing is left', async () => {
    const order: string[] = [];
    const done = ['one', 'two'].map((path) => ({
      changes: [change('create', path)],
      undo: async () => void order.push(path),
    }));
    const error = await takeBack(
      new ArcaError('attach-failed', 'why'),
      done,
      async () => {
        order.push('back');
        return [];
      },
      left,
    );
    expect(order).toEqual(['two', 'one', 'back']);
    expect(error.message).toBe('why. All of it was taken back');
    expect(error.details).toMatchObject({ rolledBack: ['create two', 'create one'], left: [] });
  });

  it('tells what could not be put back as still in place, and never as taken back', async () => {
    const gone = change('delete', 'device d, DHCP client');
    const done = [{ changes: [change('update', 'bridge b'), gone], undo: async () => {} }];
    const lost = async () => [{ changes: [gone], why: 'no lease' }];
    const error = await takeBack(new ArcaError('attach-failed', 'why'), done, lost, left);
    expect(error).toMatchObject({ code: 'state-incomplete', details: { left: ['delete device d, DHCP client'] } });
    expect(error.details).toMatchObject({ rolledBack: ['update bridge b'] });
    expect(error.message).toBe(
      'why. Still in place, for it could not be taken back (no lease): delete device d, DHCP client; taken back: update bridge b',
    );
  });
});
