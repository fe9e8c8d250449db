/** `arca state` when things go wrong after it has begun: what is taken back, what is told, and that the next apply mends it. */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ERROR_KINDS } from '../../src/errors.js';
import { applyState } from '../../src/state/apply.js';
import { readStateDocument } from '../../src/state/document.js';
import { stateContext } from '../../src/state/plan.js';
import { startInBackground } from '../support/background.js';
import { type TestSandbox, testDatapath, useSandbox } from '../support/sandbox.js';
import {
  addDevice,
  apply,
  arcaState,
  removeLater,
  startState,
  stateCommand,
  stateText,
  told,
} from '../support/state.js';
import { eventually, scaled } from '../support/time.js';

const box = useSandbox();
const INCOMPLETE = ERROR_KINDS['state-incomplete'].exitCode;

const FILE = stateText([
  { name: 'sb0', internal_ports: ['sb0-if'], address: '10.99.0.1/24' },
  {
    name: 'sb1',
    internal_ports: ['sb1-if'],
    openflow: {
      auto_apply_defaults: true,
      default_rules: ['priority=60,arp,actions=normal', 'priority=50,actions=normal'],
    },
  },
]);

function names(): Promise<string> {
  const list = (table: string): string[] => ['--', '--columns=name', 'list', table];
  return box.current.vsctl('--bare', ...list('Bridge'), ...list('Port'));
}

describe('a failure after the transaction', () => {
  it('of a device that is not there: all of it is taken back, and told', async () => {
    const sandbox = box.current;
    const before = await names();
    const file = stateText([{ name: 'sb0', ports: ['nodev0'], internal_ports: ['sb0-if'] }]);
    const answer = await apply(sandbox, file);
    expect(answer.exitCode).toBe(INCOMPLETE);
    expect(answer.stderr).toBe(
      'arca: bridge sb0, port nodev0: could not open network device nodev0 (No such device). All of it was taken back\n',
    );
    const all = ['create bridge sb0', 'create bridge sb0, port nodev0', 'create bridge sb0, port sb0-if'];
    expect(answer.error?.details).toMatchObject({ applied: all, rolledBack: all, left: [] });
    expect(await names()).toBe(before);
  });

  it('of a change: what was there before is there again, and a removed bridge with its own settings', async () => {
    const sandbox = box.current;
    expect((await apply(sandbox, FILE)).exitCode).toBe(0);
    await sandbox.vsctl('set', 'Bridge', 'sb1', 'other_config:mac-aging-time=60', 'stp_enable=true');
    const changed = stateText([{ name: 'sb0', ports: ['nodev0'], internal_ports: [{ name: 'sb0-if', tag: 9 }] }]);
    expect((await apply(sandbox, changed)).exitCode).toBe(INCOMPLETE);
    expect(await sandbox.vsctl('get', 'Port', 'sb0-if', 'tag')).toBe('[]');
    expect(await sandbox.vsctl('get', 'Bridge', 'sb1', 'other_config', 'stp_enable')).toBe(
      '{mac-aging-time="60"}\ntrue',
    );
    expect(await arcaState(sandbox, 'verify', FILE)).toMatchObject({ exitCode: 0, stderr: '' });
  });

  it('of an address: bridges and flows are taken back, too', async () => {
    const sandbox = box.current;
    const before = await names();
    const file = stateText(
      [{ name: 'sb0', internal_ports: ['sb0-if'] }],
      [{ name: 'nodev0', address: '10.99.0.1/24' }],
    );
    const answer = await apply(sandbox, file);
    expect(answer.exitCode).toBe(INCOMPLETE);
    expect(answer.stderr).toContain('nodev0');
    expect(answer.stderr).toContain('All of it was taken back');
    expect(await names()).toBe(before);
    expect(await sandbox.vsctl('get', 'Open_vSwitch', '.', 'external_ids')).not.toContain('arca-state');
  });

  it.skipIf(testDatapath() === 'system')(
    'of a datapath that this kernel lacks (told also where OVS says nothing)',
    async () => {
      const sandbox = box.current;
      expect((await apply(sandbox, stateText([{ name: 'sb0', internal_ports: ['sb0-if'] }]))).exitCode).toBe(0);
      const system = stateText([{ name: 'sb0', datapath_type: 'system', internal_ports: ['sb0-if'] }]);
      const answer = await apply(sandbox, system);
      expect(answer.exitCode).toBe(INCOMPLETE);
      expect(answer.stderr).toContain('bridge sb0: ovs-vswitchd could not make it with the datapath system');
      expect(await sandbox.vsctl('get', 'Bridge', 'sb0', 'datapath_type')).toBe('netdev');
    },
  );

  it('of a removed bridge: its addresses and flows are there again', async () => {
    const sandbox = box.current;
    expect((await apply(sandbox, FILE)).exitCode).toBe(0);
    const answer = await apply(sandbox, stateText([{ name: 'sb2', ports: ['nodev0'] }]));
    expect(answer.exitCode).toBe(INCOMPLETE);
    expect(answer.error?.details['left']).toEqual([]);
    expect(await arcaState(sandbox, 'verify', FILE)).toMatchObject({ exitCode: 0, stderr: '' });
  });

  it('of a vswitchd that hangs: the database is as it was, and stays so when it goes on', async () => {
    const sandbox = box.current;
    removeLater(sandbox);
    const before = await names();
    await sandbox.pause('ovs-vswitchd');
    try {
      const answer = told(await arcaState(sandbox, 'apply', FILE, '--yes', '--json', '--timeout', '4'));
      expect(answer.exitCode).toBe(INCOMPLETE);
      expect(answer.stderr).toContain('ovs-vswitchd does not answer');
      expect(answer.error?.details['left']).toEqual([]);
      expect(await names()).toBe(before);
    } finally {
      await sandbox.resume('ovs-vswitchd');
    }
    expect((await apply(sandbox, FILE)).exitCode).toBe(0);
  });

  it('that can not be taken back, since somebody has built on it, says exactly what is in place', async () => {
    const sandbox = box.current;
    removeLater(sandbox);
    await sandbox.pause('ovs-vswitchd');
    try {
      const running = startState(sandbox, 'apply', stateText([{ name: 'sb0' }]), '--yes', '--json', '--timeout', '5');
      await eventually(
        'the bridge is in the database',
        async () => (await names()).includes('sb0') || undefined,
        15_000,
      );
      await sandbox.vsctl(
        '--no-wait',
        'add-port',
        'sb0',
        's-theirs',
        '--',
        'set',
        'Interface',
        's-theirs',
        'type=internal',
      );
      sandbox.defer(async () => void (await sandbox.vsctl('--if-exists', 'del-br', 'sb0')));
      expect((await running.ended).exitCode).toBe(INCOMPLETE);
      const { error } = JSON.parse(running.stdout.all.join('\n'));
      expect(error.details).toMatchObject({ rolledBack: [], left: ['create bridge sb0'] });
      expect(error.message).toContain('somebody else has changed it since');
      expect(await names()).toContain('s-theirs');
    } finally {
      await sandbox.resume('ovs-vswitchd');
    }
  });
});

describe('somebody else between plan and transaction', () => {
  /** In this process: what `confirm` does comes between. Without addresses, which would be this namespace's. */
  async function applyWhile(meddle: () => Promise<unknown>, mayReplan: boolean): Promise<string[]> {
    const sandbox = box.current;
    removeLater(sandbox);
    const { state } = readStateDocument(stateText([{ name: 'sb0', internal_ports: ['sb0-if'] }]), 'test');
    const place = { ovsSocketPath: `${sandbox.runDir}/db.sock`, adopt: false, runDir: `${sandbox.runDir}/ovs-dhcp` };
    const context = stateContext({ ...state, links: [] }, place, sandbox.fullEnv);
    const confirm = async (): Promise<void> => void (await meddle());
    const { changes } = await applyState({ context, confirm, mayReplan, timeoutMs: scaled(10_000) });
    return changes.map(({ kind, path }) => `${kind} ${path}`);
  }
  const addBridge = (name: string) =>
    box.current.vsctl('add-br', name, '--', 'set', 'Bridge', name, `datapath_type=${box.current.datapath}`);

  it('a bridge of the same name came: nothing is done', async () => {
    box.current.defer(async () => void (await box.current.vsctl('--if-exists', 'del-br', 'sb0')));
    await expect(applyWhile(() => addBridge('sb0'), true)).rejects.toMatchObject({ code: 'state-foreign' });
    expect(await box.current.vsctl('list-ports', 'sb0')).toBe('');
  });

  it('another plan needs another yes, unless nobody was asked', async () => {
    await apply(box.current, stateText([{ name: 'sb0', internal_ports: ['sb0-if', 'sb0-old'] }]));
    const remove = () => apply(box.current, stateText([]));
    await expect(applyWhile(remove, false)).rejects.toMatchObject({ code: 'state-changed' });
    await apply(box.current, stateText([{ name: 'sb0', internal_ports: ['sb0-if', 'sb0-old'] }]));
    expect(await applyWhile(remove, true)).toEqual(['create bridge sb0', 'create bridge sb0, port sb0-if']);
  });

  it('another apply of the same file did it: nothing is left to do', async () => {
    expect(
      await applyWhile(() => apply(box.current, stateText([{ name: 'sb0', internal_ports: ['sb0-if'] }])), false),
    ).toEqual([]);
  });
});

describe('two at once', () => {
  it('of the same file: both say that it is so, and it is', async () => {
    const sandbox = box.current;
    removeLater(sandbox);
    const both = await Promise.all([1, 2].map(() => arcaState(sandbox, 'apply', FILE, '--yes')));
    expect(both.map(({ exitCode, stderr }) => ({ exitCode, stderr }))).toEqual(
      [1, 2].map(() => ({ exitCode: 0, stderr: '' })),
    );
    expect((await arcaState(sandbox, 'verify', FILE)).exitCode).toBe(0);
  });

  it('of different files: one after the other, and it is as one of them says', async () => {
    const sandbox = box.current;
    removeLater(sandbox);
    const files = [FILE, stateText([{ name: 'sb0', internal_ports: ['sb0-x'], address: '10.99.1.1/24' }])];
    const both = await Promise.all(files.map((file) => arcaState(sandbox, 'apply', file, '--yes')));
    expect(both.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
    const verified = await Promise.all(files.map((file) => arcaState(sandbox, 'verify', file)));
    expect(verified.map(({ exitCode }) => exitCode).sort()).toEqual([0, 1]);
  });
});

describe('an apply that is ended', () => {
  it(
    'by SIGKILL at whatever moment: the next one converges, and nothing is left over',
    async () => {
      const sandbox = box.current;
      await addDevice(sandbox, 'sd0');
      await apply(sandbox, FILE);
      const begun = performance.now();
      await apply(sandbox, stateText([]));
      const usualMs = performance.now() - begun;
      for (const part of [0.3, 0.5, 0.6, 0.7, 0.8, 0.9]) {
        const running = startState(sandbox, 'apply', FILE, '--yes');
        await delay(usualMs * part);
        running.kill('SIGKILL');
        await running.ended;
        expect((await apply(sandbox, FILE)).exitCode).toBe(0);
        expect((await arcaState(sandbox, 'verify', FILE)).exitCode).toBe(0);
        const removing = startState(sandbox, 'apply', stateText([]), '--yes');
        await delay(usualMs * part);
        removing.kill('SIGKILL');
        await removing.ended;
        expect((await apply(sandbox, stateText([]))).exitCode).toBe(0);
        expect(await sandbox.vsctl('list-br')).toBe('br-int');
      }
    },
    scaled(120_000),
  );

  it('by SIGTERM is done as a whole, or not at all, and says which', async () => {
    const sandbox = box.current;
    removeLater(sandbox);
    const running = startState(sandbox, 'apply', FILE, '--yes');
    await running.stdout.waitFor(/^Plan:/);
    running.kill('SIGTERM');
    const { exitCode } = await running.ended;
    const { exitCode: verified } = await arcaState(sandbox, 'verify', FILE);
    expect([exitCode, verified]).toEqual(exitCode === 0 ? [0, 0] : [ERROR_KINDS['timed-out'].exitCode, 1]);
    if (exitCode !== 0) expect(await sandbox.vsctl('list-br')).toBe('br-int');
    expect(running.stderr.all.join('\n')).toMatch(/finished, or taken back, first|before anything was changed/);
  });
});

describe('--watch', () => {
  it(
    'applies flows and addresses again after vswitchd was restarted, and whenever they are lost',
    async () => {
      const sandbox = box.current;
      await apply(sandbox, FILE);
      const running = startState(sandbox, 'apply', FILE, '--yes', '--watch');
      await running.stderr.waitFor(/"msg":"watching"/);
      const flows = async (): Promise<number | undefined> => {
        const { stdout } = await sandbox.exec('ovs-ofctl', ['dump-flows', 'sb1']);
        return stdout.match(/cookie=0x6172636173746174/g)?.length === 2 ? 2 : undefined;
      };
      const addresses = async (): Promise<true | undefined> => {
        const { stdout } = await sandbox.exec('ip', ['address', 'show', 'sb0-if']);
        return stdout.includes('10.99.0.1/24') || undefined;
      };
      await sandbox.restart('ovs-vswitchd');
      await eventually('the flows are back after a restart', () => flows().catch(() => undefined), 15_000);
      await sandbox.exec('ovs-ofctl', ['del-flows', 'sb1']);
      await eventually('the flows are back after somebody deleted them', flows, 15_000);
      await sandbox.exec('ip', ['address', 'flush', 'dev', 'sb0-if']);
      await eventually('the address is back', addresses, 15_000);
      await sandbox.restart('ovsdb-server');
      await sandbox.vsctl('del-port', 'sb1-if');
      await running.stderr.waitFor(/bridges or ports are not as the file says/, { timeoutMs: 15_000 });
      running.kill('SIGTERM');
      expect(await running.ended).toEqual({ exitCode: 0, signal: null });
    },
    scaled(60_000),
  );

  it('remembers an address before it is set, so that none is left unknown when it is killed in between', async () => {
    const sandbox = box.current;
    await apply(sandbox, FILE);
    const [log, env] = await logAdditions(sandbox);
    const [command, args] = stateCommand(sandbox, 'apply', '-', '--yes', '--watch');
    const running = startInBackground(command, args, { env, input: Buffer.from(FILE) });
    sandbox.defer(() => running.destroy());
    await running.stderr.waitFor(/"msg":"watching"/);
    const flush = () => sandbox.exec('ip', ['address', 'flush', 'dev', 'sb0-if']);
    await flush();
    await running.stderr.waitFor(/"msg":"applied again"/, { timeoutMs: 15_000 });
    const since = running.stderr.all.length;
    // It rests now, and sees both at once.
    running.kill('SIGSTOP');
    await sandbox.vsctl('remove', 'Bridge', 'sb0', 'external_ids', 'arca-state-links');
    await flush();
    running.kill('SIGCONT');
    await running.stderr.waitFor(/"msg":"applied again"/, { since, timeoutMs: 15_000 });
    expect(await readFile(log, 'utf8')).toBe('"sb0-if=10.99.0.1/24"\n'.repeat(2));
    running.kill('SIGTERM');
    expect(await running.ended).toEqual({ exitCode: 0, signal: null });
  });

  /** An environment in which ip(8) writes down what the bridge sb0 remembers whenever it adds an address. */
  async function logAdditions(sandbox: TestSandbox): Promise<[log: string, env: NodeJS.ProcessEnv]> {
    const [folder, log] = [`${sandbox.runDir}/ip`, `${sandbox.runDir}/ip/log`];
    await mkdir(folder);
    sandbox.defer(() => rm(folder, { recursive: true }));
    const { stdout } = await sandbox.exec('which', ['ip']);
    const ask = `ovs-vsctl --db=unix:${sandbox.runDir}/db.sock --if-exists get Bridge sb0 external_ids:arca-state-links`;
    const script = `#!/bin/sh\n[ "$1 $2" != "address add" ] || ${ask} >>${log}\nexec ${stdout.trim()} "$@"\n`;
    await writeFile(`${folder}/ip`, script, { mode: 0o755 });
    return [log, { ...sandbox.fullEnv, PATH: `${folder}:${sandbox.fullEnv['PATH']}` }];
  }
});

describe('show', () => {
  it('prints a state file of what is ours, from which verify differs in nothing', async () => {
    const sandbox = box.current;
    await apply(sandbox, FILE);
    const shown = await arcaState(sandbox, 'show', '');
    expect(shown.exitCode).toBe(0);
    expect(shown.stdout).not.toContain('br-int');
    expect(await arcaState(sandbox, 'verify', shown.stdout)).toMatchObject({ exitCode: 0, stderr: '' });
    expect((await arcaState(sandbox, 'show', '', '--all')).stdout).toContain('br-int');
  });
});
