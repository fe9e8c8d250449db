/** Each step of attach and detach, made to fail: everything before it is undone, and the answer says which and why. */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tapName } from '../../src/ovn/names.js';
import {
  type ControlProcess,
  joinNetwork,
  makeNetwork,
  ovnRows,
  relayFiles,
  spawnControl,
  specHere,
  startControl,
  startPing,
} from '../support/control.js';
import { useSandbox } from '../support/sandbox.js';
import { expectNothingMore, snapshot } from '../support/system.js';
import { within } from '../support/time.js';

const sandbox = useSandbox();

/** What `fail` makes of an attach: it is undone, and with `mend` it works. */
async function failedAttach(
  control: ControlProcess,
  network: string,
  fail: () => Promise<void>,
  mend: () => Promise<void>,
): Promise<unknown> {
  const before = { system: await snapshot(sandbox.current), rows: await ovnRows(sandbox.current) };
  let failure: unknown;
  await fail();
  try {
    failure = await control.attach(specHere(sandbox.current, 'web', network)).then(
      () => undefined,
      (error: unknown) => error,
    );
  } finally {
    await mend();
  }
  expect(await control.listAttachments({})).toEqual([]);
  expectNothingMore(before.system, await snapshot(sandbox.current));
  expect(await ovnRows(sandbox.current)).toEqual(before.rows);
  await control.attach(specHere(sandbox.current, 'web', network));
  await control.detach('web', network);
  expect(await relayFiles(control)).toEqual([]);
  return failure;
}

describe('an attach that fails is undone, and says at which step', () => {
  it("the ancestor's fault: the relay's start fails, for a device of that name exists", async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    const spec = specHere(sandbox.current, 'web', name);
    const tap = tapName(spec.endpoint ?? { transport: 'vsock', port: 0 }, 'web', name);
    const failure = await failedAttach(
      control,
      name,
      async () => {
        await sandbox.current.exec('ip', ['tuntap', 'add', tap, 'mode', 'tap']);
      },
      async () => {
        await sandbox.current.exec('ip', ['link', 'delete', tap]);
      },
    );
    expect(failure).toMatchObject({ code: 'tap-name-in-use', details: { step: 'relay' } });
  });

  it('somebody listens on its endpoint', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    const { endpoint } = specHere(sandbox.current, 'web', name);
    const other = createServer();
    const failure = await failedAttach(
      control,
      name,
      () => new Promise<void>((resolve) => other.listen(endpoint?.transport === 'unix' ? endpoint.path : '', resolve)),
      () => new Promise<void>((resolve) => void other.close(() => resolve())),
    );
    expect(failure).toMatchObject({ code: 'endpoint-in-use', details: { step: 'relay' } });
  });

  it('an OVS port of that name is somebody else’s: it stays', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    const { endpoint } = specHere(sandbox.current, 'web', name);
    const tap = tapName(endpoint ?? { transport: 'vsock', port: 0 }, 'web', name);
    let rows = '';
    const failure = await failedAttach(
      control,
      name,
      async () => {
        await sandbox.current.vsctl('add-port', 'br-int', tap, '--', 'set', 'Interface', tap, 'type=internal');
        rows = await sandbox.current.vsctl('get', 'Port', tap, '_uuid');
      },
      async () => {
        expect(await sandbox.current.vsctl('get', 'Port', tap, '_uuid')).toBe(rows);
        await sandbox.current.vsctl('del-port', tap);
      },
    );
    expect(failure).toMatchObject({ details: { step: 'relay' } });
  });

  it('northd is stopped, and draws no address', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    const failure = await failedAttach(
      control,
      name,
      () => sandbox.current.pause('ovn-northd'),
      () => sandbox.current.resume('ovn-northd'),
    );
    expect(failure).toMatchObject({ code: 'northbound-timeout', details: { step: 'addresses' } });
  });

  it('ovs-vswitchd is stopped', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    const failure = await failedAttach(
      control,
      name,
      () => sandbox.current.pause('ovs-vswitchd'),
      () => sandbox.current.resume('ovs-vswitchd'),
    );
    expect(failure).toMatchObject({ code: 'ovs-timeout', details: { step: 'relay' } });
  });

  it('the database of OVS is gone', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    const failure = await failedAttach(
      control,
      name,
      () => sandbox.current.kill('ovsdb-server'),
      () => sandbox.current.start('ovsdb-server'),
    );
    expect(failure).toMatchObject({ code: 'ovs-unreachable', details: { step: 'relay' } });
  });

  it('the northbound database is gone', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    await sandbox.current.kill('ovn-northbound');
    try {
      await expect(control.attach(specHere(sandbox.current, 'web', name))).rejects.toMatchObject({
        code: 'northbound-unreachable',
        details: { step: 'network' },
      });
    } finally {
      await sandbox.current.start('ovn-northbound');
    }
    expect(await control.listAttachments({})).toEqual([]);
  });

  it('a network that is unknown, foreign, or has no tag', async () => {
    const control = await startControl(sandbox.current);
    const foreign = sandbox.current.uniqueName('foreign');
    await sandbox.current.addSwitch(foreign, 333);
    sandbox.current.defer(async () => {
      await sandbox.current.nbctl('ls-del', foreign);
    });
    const attach = (network: string) => control.attach(specHere(sandbox.current, 'web', network));
    await expect(attach('nosuch')).rejects.toMatchObject({ code: 'network-unknown', details: { step: 'network' } });
    await expect(attach(foreign)).rejects.toMatchObject({ code: 'network-foreign' });
    await control.adoptNetwork(foreign, {});
    expect((await attach(foreign)).value).toMatchObject({ vlan: 333 });
    await control.detach('web', foreign);
  });

  it('what another container has: its endpoint, MAC or address', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control, { subnet: '10.75.0.0/24' });
    const web = { ...specHere(sandbox.current, 'web', name), mac: '02:00:00:00:00:11', address: '10.75.0.7' };
    await control.attach(web);
    const before = await snapshot(sandbox.current);
    const db = specHere(sandbox.current, 'db', name);
    await expect(control.attach({ ...db, endpoint: web.endpoint })).rejects.toMatchObject({ code: 'endpoint-in-use' });
    await expect(control.attach({ ...db, mac: web.mac })).rejects.toMatchObject({ code: 'mac-in-use' });
    await expect(control.attach({ ...db, address: web.address })).rejects.toMatchObject({ code: 'address-in-use' });
    expectNothingMore(before, await snapshot(sandbox.current));
    expect(await control.listAttachments({})).toHaveLength(1);
  });
});

describe('a detach that fails', () => {
  it('for the northbound database hangs, takes nothing away', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    const web = await joinNetwork(sandbox.current, control, 'web', name);
    const db = await joinNetwork(sandbox.current, control, 'db', name);
    await web.waitUntilPings(db.address);
    const ping = await startPing(web, db.address);
    await sandbox.current.pause('ovn-northbound');
    try {
      await expect(control.detach('web', name)).rejects.toMatchObject({ details: { step: 'logical-port' } });
    } finally {
      await sandbox.current.resume('ovn-northbound');
    }
    expect(await ping.stop()).toMatchObject({ lost: 0 });
    const { relayPid } = web.attachment;
    expect(await control.getAttachment('web', name)).toMatchObject({ state: 'ready', relayPid });
  });

  it('while OVS is gone it is done, and the port goes when OVS is back', async () => {
    const control = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, control);
    const before = await snapshot(sandbox.current);
    const { value } = await control.attach(specHere(sandbox.current, 'web', name));
    await sandbox.current.kill('ovsdb-server');
    try {
      await control.detach('web', name);
    } finally {
      await sandbox.current.start('ovsdb-server');
    }
    expect((await control.reconcile({ dryRun: false })).steps.length).toBeLessThanOrEqual(1);
    expectNothingMore(before, await snapshot(sandbox.current));
    await expect(sandbox.current.vsctl('get', 'Port', value.tap, 'name')).rejects.toThrow();
  });
});

describe('the run directory', () => {
  it('is for one control process, and the error says so', async () => {
    const control = await startControl(sandbox.current);
    const { background } = spawnControl(sandbox.current, { runDir: control.runDir });
    expect(await within(background.ended, 'the end of the second one')).toMatchObject({ exitCode: 30 });
    expect(background.stderr.all.join('\n')).toContain(`process ${control.pid}`);
    await control.listNetworks();
  });

  it('that a killed one left is free', async () => {
    const control = await startControl(sandbox.current);
    await control.kill();
    await startControl(sandbox.current, { runDir: control.runDir });
  });

  it('two with a run directory each share a database, and do not fight', async () => {
    const one = await startControl(sandbox.current);
    const { name } = await makeNetwork(sandbox.current, one);
    await one.attach(specHere(sandbox.current, 'web', name));
    const two = await startControl(sandbox.current);
    await two.attach(specHere(sandbox.current, 'db', name));
    for (const control of [one, two]) expect((await control.reconcile({ dryRun: false })).steps).toEqual([]);
    expect((await one.listAttachments({})).map(({ container }) => container)).toEqual(['web']);
    expect((await two.listAttachments({})).map(({ container }) => container)).toEqual(['db']);
    await expect(two.attach(specHere(sandbox.current, 'web', name))).rejects.toMatchObject({
      code: 'attachment-conflict',
    });
    await expect(two.detach('web', name)).rejects.toMatchObject({ code: 'attachment-unknown' });
    await expect(one.removeNetwork(name, { force: true })).rejects.toMatchObject({ code: 'network-busy' });
  });

  it('whose path is too long for the sockets in it is refused', async () => {
    const runDir = join(sandbox.current.runDir, 'x'.repeat(90));
    const { background } = spawnControl(sandbox.current, { runDir });
    expect(await within(background.ended, 'its end')).toMatchObject({ exitCode: 2 });
  });
});
