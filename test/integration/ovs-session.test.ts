/** What the view of one port sees of an OVS, and what it is not woken by. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openOvsSession } from '../../src/ovs/session.js';
import { useSandbox } from '../support/sandbox.js';
import { eventually, scaled } from '../support/time.js';

const box = useSandbox();
const LOOK_EVERY_MS = 50;

describe('the view of one port', () => {
  it('sees that it was moved to another bridge and back, by a write to the database', async () => {
    const sandbox = box.current;
    const other = sandbox.uniqueName('br-other');
    const tap = sandbox.uniqueName('port');
    await sandbox.vsctl('add-br', other, '--', 'set', 'Bridge', other, `datapath_type=${sandbox.datapath}`);
    sandbox.defer(async () => void (await sandbox.vsctl('--if-exists', 'del-br', other)));
    await sandbox.vsctl('add-port', 'br-int', tap, '--', 'set', 'Interface', tap, 'type=internal');
    sandbox.defer(async () => void (await sandbox.vsctl('--if-exists', 'del-port', tap)));
    const session = await openOvsSession({
      ...{ socketPath: join(sandbox.runDir, 'db.sock'), bridge: 'br-int', tap },
      ...{ timeoutMs: scaled(5_000), lookEveryMs: LOOK_EVERY_MS },
    });
    sandbox.defer(async () => session.close());
    expect(session.view().port?.isOnBridge).toBe(true);

    const uuid = await sandbox.vsctl('get', 'Port', tap, '_uuid');
    const move = (from: string, to: string) =>
      sandbox.vsctl('remove', 'Bridge', from, 'ports', uuid, '--', 'add', 'Bridge', to, 'ports', uuid);
    await move('br-int', other);
    await eventually('it is seen to be elsewhere', () => session.view().port?.isOnBridge === false || undefined);
    await move(other, 'br-int');
    await eventually('it is seen to be back', () => session.view().port?.isOnBridge || undefined);
  });

  it('is not told of the ports of others', async () => {
    const sandbox = box.current;
    const [tap, stranger] = [sandbox.uniqueName('port'), sandbox.uniqueName('port')];
    await sandbox.vsctl('add-port', 'br-int', tap, '--', 'set', 'Interface', tap, 'type=internal');
    sandbox.defer(async () => void (await sandbox.vsctl('--if-exists', 'del-port', tap)));
    sandbox.defer(async () => void (await sandbox.vsctl('--if-exists', 'del-port', stranger)));
    let changes = 0;
    const session = await openOvsSession({
      ...{ socketPath: join(sandbox.runDir, 'db.sock'), bridge: 'br-int', tap, timeoutMs: scaled(5_000) },
      onChange: () => {
        changes += 1;
      },
    });
    sandbox.defer(async () => session.close());
    await session.syncWithVswitchd({ timeoutMs: scaled(5_000) });
    const before = changes;
    await sandbox.vsctl('add-port', 'br-int', stranger, '--', 'set', 'Interface', stranger, 'type=internal');
    await sandbox.vsctl('del-port', 'br-int', stranger);
    await session.syncWithVswitchd({ timeoutMs: scaled(5_000) });
    expect(changes).toBe(before);
    await sandbox.vsctl('set', 'Port', tap, 'tag=7');
    await eventually('a change of its own', () => changes > before || undefined);
  });
});
