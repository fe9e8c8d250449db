/** `arca` as its user calls it, against the control API with a service that the test holds: no OVS and no OVN. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type ControlApi, startControlApi } from '../../src/control/api/server.js';
import { ArcaError, ERROR_KINDS, type ErrorCode } from '../../src/errors.js';
import { CommandError, run } from '../../src/exec.js';
import { createLogger } from '../../src/log.js';
import { type Background, startInBackground } from '../support/background.js';
import { createFakeControl, type FakeControl } from '../support/fake-control.js';
import { scaled, within } from '../support/time.js';

const ARCA = fileURLToPath(new URL('../../dist/cli/arca.js', import.meta.url));

interface Answer {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

let folder: string;
let path: string;
let control: FakeControl;
let api: ControlApi | undefined;
let background: Background | undefined;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'arca-cli-'));
  path = join(folder, 'control.sock');
  control = createFakeControl();
  await serve();
});

afterEach(async () => {
  await background?.destroy();
  background = undefined;
  await api?.stop();
  rmSync(folder, { recursive: true });
});

async function serve(): Promise<void> {
  const log = await createLogger({ level: 'silent' });
  api = await startControlApi({ service: control, paths: [path], group: 'none', log, version: '1.2.3' });
}

const environment = (): NodeJS.ProcessEnv => ({ ...process.env, ARCA_CONTROL: `unix:${path}` });

async function command(program: string, args: readonly string[], env = environment()): Promise<Answer> {
  try {
    return { exitCode: 0, ...(await run(program, args, { timeoutMs: scaled(10_000), env })) };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return { exitCode: error.exitCode, ...error.output };
  }
}

const arca = (...args: string[]): Promise<Answer> => command(process.execPath, [ARCA, ...args]);

/** In a terminal of its own (script(1)), which has no width. What it shows goes to `typescript`, too, as it comes. */
const arcaOnTerminal = (line: string, env: NodeJS.ProcessEnv = {}, typescript = '/dev/null'): Promise<Answer> =>
  command('script', ['-qefc', `'${process.execPath}' '${ARCA}' ${line}`, typescript], {
    ...environment(),
    NO_COLOR: '',
    CI: undefined,
    TERM: 'xterm',
    ...env,
  });

function watch(...args: string[]): Background {
  background = startInBackground(process.execPath, [ARCA, ...args], { env: environment() });
  return background;
}

async function interrupt(program: Background): Promise<void> {
  program.kill('SIGINT');
  expect(await within(program.ended, 'its end')).toMatchObject({ exitCode: 0 });
  expect(program.stderr.all).toEqual([]);
}

describe('the verbs', () => {
  it('make, list, show and remove', async () => {
    expect(await arca('network', 'create', 'net-a', '--subnet', '10.9.0.0/24', '--gateway', '10.9.0.1')).toEqual({
      ...{ exitCode: 0, stdout: 'network net-a made: VLAN 100\n', stderr: '' },
    });
    expect((await arca('network', 'create', 'net-a')).stdout).toBe('network net-a is there already: VLAN 100\n');
    expect((await arca('network', 'ls')).stdout).toBe(
      'NETWORK  VLAN  SUBNET       GATEWAY    MTU  CONTAINERS  OWNER\n' +
        'net-a     100  10.9.0.0/24  10.9.0.1  1500           0  arca\n',
    );
    expect((await arca('network', 'inspect', 'net-a')).stdout).toContain('subnet      10.9.0.0/24\n');
    expect((await arca('network', 'adopt', 'net-a', '--vlan', '300')).stdout).toContain('VLAN 300');

    const attached = await arca('attach', 'web', '--network', 'net-a', '--address', '10.9.0.7', '--peer-cid', '3');
    expect(attached.stdout).toContain('web attached to net-a\n');
    expect(attached.stdout).toContain('arca-tap --connect vsock:2:5000 --tap eth0\n');
    await arca('attach', 'api', '--network', 'net-a', '--listen', 'unix:/tmp/api.sock');
    const { stdout } = await arca('ps');
    expect(stdout.split('\n')[0]).toMatch(/^CONTAINER +NETWORK +STATE +PEER +ADDRESS +MAC +VLAN +ENDPOINT +RESTARTS$/);
    expect(stdout).toMatch(/^web +net-a +ready +- +10\.9\.0\.7\/24 .* vsock:5000 +0$/m);
    expect(stdout).toMatch(/^api .* unix:\/tmp\/api\.sock +0$/m);
    expect((await arca('ps', '--container', 'api')).stdout).not.toContain('web');
    expect((await arca('show', 'web', '--network', 'net-a')).stdout).toContain('state         ready\n');
    expect((await arca('detach', 'web', '--network', 'net-a')).stdout).toBe('web detached from net-a\n');
    expect(await arca('network', 'rm', 'net-a')).toMatchObject({ exitCode: ERROR_KINDS['network-busy'].exitCode });
    expect((await arca('network', 'rm', 'net-a', '--force')).stdout).toBe('network net-a removed\n');
    expect((await arca('ps')).stdout).toContain('no container is attached');
    expect((await arca('network', 'ls')).stdout).toContain('there is no network');
  });

  it('know chassis, health, the plan, metrics and versions', async () => {
    expect((await arca('chassis', 'register', 'h1', '--encap-ip', '192.0.2.1')).stdout).toContain('registered');
    expect((await arca('chassis', 'ls')).stdout).toMatch(/^h1 +here +geneve 192\.0\.2\.1 +yes$/m);
    expect((await arca('chassis', 'show', 'h1')).stdout).toContain('geneve 192.0.2.1');
    expect(await arca('chassis', 'show', 'h2')).toMatchObject({ exitCode: ERROR_KINDS['chassis-unknown'].exitCode });
    expect((await arca('chassis', 'remove', 'h1')).stdout).toContain('removed');
    expect((await arca('chassis', 'ls')).stdout).toContain('there is no chassis');

    expect((await arca('health')).stdout).toMatch(/^northbound +ok +echo in 1 ms$/m);
    control.healthNow = { state: 'ill', parts: [{ part: 'northd', state: 'ill', detail: 'it stands still' }] };
    expect(await arca('health')).toMatchObject({
      exitCode: ERROR_KINDS['part-ill'].exitCode,
      stdout: expect.stringMatching(/^northd +ill +it stands still$/m),
      stderr: 'arca: not well: northd\n',
    });

    expect((await arca('reconcile', '--dry-run')).stdout).toBe('all is as it should be\n');
    control.plan = [{ action: 'remove-port', port: 'tap9', reason: 'its relay is gone' }];
    expect((await arca('reconcile')).stdout).toMatch(/^remove-port +tap9 +its relay is gone$/m);
    expect((await arca('metrics')).stdout).toBe('arca_control_networks 1\n');
    expect((await arca('version')).stdout).toMatch(/^arca \d.*\narca-control 1\.2\.3, API v1, process \d+, on unix:/);
    expect(await arca('network', 'policy', 'x')).toMatchObject({ exitCode: ERROR_KINDS['not-supported'].exitCode });
  });

  it('all have --json, before and behind', async () => {
    const json = async (...args: string[]): Promise<unknown> => JSON.parse((await arca(...args)).stdout);
    expect(await json('--json', 'network', 'create', 'net-a')).toMatchObject({ name: 'net-a' });
    expect(await json('network', 'ls', '--json')).toMatchObject([{ name: 'net-a' }]);
    expect(await json('network', 'inspect', 'net-a', '--json')).toMatchObject({ vlan: 100 });
    expect(await json('network', 'adopt', 'net-a', '--json')).toMatchObject({ owner: 'arca' });
    expect(await json('attach', 'web', '--network', 'net-a', '--json')).toMatchObject({ tap: 'tap5000' });
    expect(await json('ps', '--json')).toMatchObject([{ container: 'web' }]);
    expect(await json('show', 'web', '--network', 'net-a', '--json')).toMatchObject({ container: 'web' });
    expect(await json('detach', 'web', '--network', 'net-a', '--json')).toMatchObject({
      detached: { container: 'web' },
    });
    expect(await json('network', 'rm', 'net-a', '--json')).toEqual({ removed: 'net-a' });
    expect(await json('chassis', 'register', 'h', '--encap-ip', '::1', '--json')).toMatchObject({ name: 'h' });
    expect(await json('chassis', 'ls', '--json')).toMatchObject([{ name: 'h' }]);
    expect(await json('chassis', 'show', 'h', '--json')).toMatchObject({ name: 'h' });
    expect(await json('chassis', 'rm', 'h', '--json')).toEqual({ removed: 'h' });
    expect(await json('health', '--json')).toMatchObject({ state: 'ok' });
    expect(await json('reconcile', '--json')).toEqual({ dryRun: false, steps: [] });
    expect(await json('metrics', '--json')).toMatchObject({ body: 'arca_control_networks 1\n' });
    expect(await json('version', '--json')).toMatchObject({ control: { version: '1.2.3' } });
  });

  it.each<ErrorCode>(['northbound-unreachable', 'attach-failed', 'tags-exhausted', 'unexpected'])(
    'end with the exit code of %s, and one line',
    async (code) => {
      control.failure = new ArcaError(code, 'what\nfailed \u001b[31m');
      const { exitCode, stdout, stderr } = await arca('ps');
      expect({ exitCode, stdout }).toEqual({ exitCode: ERROR_KINDS[code].exitCode, stdout: '' });
      expect(stderr).toMatch(/^arca: .*\n$/);
      expect(stderr).not.toContain('\u001b');
    },
  );

  it('say what is wrong with a command line', async () => {
    const usage = ERROR_KINDS.usage.exitCode;
    for (const args of [
      ['network', 'create', 'a', '--vlan', 'x'],
      ['attach', 'web', '--network', 'a', '--listen', '/tmp/x'],
      ['attach', 'web', '--network', 'a', '--listen', 'unix:/tmp/x', '--vsock-port', '5000'],
      ['attach', 'web'],
      ['ps', '--timeout', '0'],
      ['--control', 'tcp:x', 'ps'],
      ['frobnicate'],
    ]) {
      expect(await arca(...args)).toMatchObject({ exitCode: usage, stdout: '' });
    }
  });

  it('say what to start when nobody is there', async () => {
    await api?.stop();
    for (const args of [['ps'], ['ps', '--watch'], ['events'], ['health']]) {
      expect(await arca(...args)).toEqual({
        exitCode: ERROR_KINDS['control-unreachable'].exitCode,
        stdout: '',
        stderr: `arca: no arca-control listens on unix:${path}; start it: arca-control --listen unix:${path}\n`,
      });
    }
    const env = { ...environment(), ARCA_CONTROL: undefined };
    const answer = await command(process.execPath, [ARCA, '--control', 'unix:/nonexistent/x.sock', 'ps'], env);
    expect(answer.stderr).toContain('unix:/nonexistent/x.sock');
  });

  it('have a deadline', async () => {
    await arca('network', 'create', 'net-a');
    let open = (): void => {};
    control.attachGate = new Promise((resolve) => {
      open = resolve;
    });
    const answer = await arca('attach', 'web', '--network', 'net-a', '--timeout', '0.3');
    expect(answer).toMatchObject({ exitCode: ERROR_KINDS['timed-out'].exitCode });
    expect(answer.stderr).toContain('--timeout');
    open();
  });

  it('print names that somebody else gave safely', async () => {
    const name = '\u001b]0;owned\u0007\u202e\nx';
    await control.createNetwork({ name });
    await control.attach({ container: name, network: name });
    for (const args of [['network', 'ls'], ['ps'], ['network', 'inspect', name], ['show', name, '--network', name]]) {
      for (const format of [[], ['--json']]) {
        const { exitCode, stdout } = await arca(...args, ...format);
        expect(exitCode).toBe(0);
        expect(stdout.replaceAll('\n', '')).not.toMatch(/\p{Cc}|\u202e/u);
      }
    }
  });
});

describe('on a terminal', () => {
  it('has colours, and none with NO_COLOR', async () => {
    await control.createNetwork({ name: 'net-a' });
    await control.attach({ container: 'web', network: 'net-a' });
    expect((await arcaOnTerminal('ps')).stdout).toContain('\u001b[32mready\u001b[39m');
    expect((await arcaOnTerminal('ps', { NO_COLOR: '1' })).stdout).not.toContain('\u001b[');
    expect((await arca('ps')).stdout).not.toContain('\u001b[');
  });

  it('shows that it waits, and cleans up after it', async () => {
    await control.createNetwork({ name: 'net-a' });
    let open: () => void = () => {};
    control.attachGate = new Promise((resolve) => {
      open = resolve;
    });
    const typescript = join(folder, 'typescript');
    const answering = arcaOnTerminal('attach web --network net-a', {}, typescript);
    const isShown = (): boolean => existsSync(typescript) && readFileSync(typescript, 'utf8').includes('attaching web');
    await vi.waitUntil(isShown, { timeout: scaled(10_000) }).finally(open);
    const { stdout, exitCode } = await answering;
    expect(exitCode).toBe(0);
    expect(stdout).toContain('attaching web to net-a');
    // The cursor is shown again.
    expect(stdout.lastIndexOf('\u001b[?25h')).toBeGreaterThan(stdout.lastIndexOf('\u001b[?25l'));
    expect(stdout).toContain('web attached to net-a');
  });
});

describe('watching', () => {
  it('prints events as they happen, and ends with 0 at Ctrl-C', async () => {
    const program = watch('events');
    // Subscribed, but nothing tells so: make changes until one is seen.
    const seen = program.stdout.waitFor(/network-created {2}net-/);
    const made = setInterval(() => void control.createNetwork({ name: `net-${Date.now()}` }), 50);
    await seen;
    clearInterval(made);
    control.emit({
      ...{ at: '2026-01-02T03:04:05.678Z', type: 'attachment-changed', container: 'web', network: 'net-a' },
      ...{ state: 'restarting', trouble: 'killed by \u001b[31m', connected: false },
    });
    expect(await program.stdout.waitFor(/attachment-changed/)).toBe(
      '2026-01-02T03:04:05.678Z  attachment-changed  web on net-a: restarting, killed by \\u{1b}[31m, peer gone',
    );
    await interrupt(program);
  });

  it('says when arca-control ends the events', async () => {
    const program = watch('events', '--json');
    const seen = program.stdout.waitFor(/network-created/);
    const made = setInterval(() => void control.createNetwork({ name: `net-${Date.now()}` }), 50);
    expect(JSON.parse(await seen)).toMatchObject({ type: 'network-created' });
    clearInterval(made);
    await api?.stop();
    expect(await within(program.ended, 'its end')).toMatchObject({
      exitCode: ERROR_KINDS['control-unreachable'].exitCode,
    });
  });

  it('shows ps again when it changes, over a restart of arca-control', async () => {
    const program = watch('ps', '--watch');
    await program.stdout.waitFor(/no container is attached/);
    await control.createNetwork({ name: 'net-a' });
    await control.attach({ container: 'web', network: 'net-a' });
    await program.stdout.waitFor(/^web +net-a +ready/);
    await api?.stop();
    await program.stderr.waitFor(/ended the stream|did not answer|no arca-control/);
    await control.attach({ container: 'api', network: 'net-a' });
    await serve();
    await program.stdout.waitFor(/^api +net-a +ready/);
    program.kill('SIGINT');
    expect(await within(program.ended, 'its end')).toMatchObject({ exitCode: 0 });
  });

  it('shows networks and health too, as JSON one line each', async () => {
    const networks = watch('network', 'ls', '--watch', '--json');
    expect(JSON.parse(await networks.stdout.waitFor(/^\[/))).toEqual([]);
    await control.createNetwork({ name: 'net-a' });
    expect(JSON.parse(await networks.stdout.waitFor(/net-a/))).toMatchObject([{ name: 'net-a' }]);
    // What is the same is not told again.
    control.emit({ at: '2026-01-02T03:04:05.678Z', type: 'network-adopted', network: 'net-a' });
    await interrupt(networks);
    expect(networks.stdout.all).toHaveLength(2);

    const health = watch('health', '--watch');
    await health.stdout.waitFor(/^northbound +ok/);
    control.healthNow = { state: 'ill', parts: [{ part: 'northbound', state: 'ill', detail: 'no echo' }] };
    control.emit({
      at: '2026-01-02T03:04:05.678Z',
      type: 'health-changed',
      part: 'northbound',
      state: 'ill',
      detail: '',
    });
    await health.stdout.waitFor(/^northbound +ill +no echo/);
    await interrupt(health);
  });
});

describe('completion in bash', () => {
  /** What bash would offer for a command line whose cursor is at its end. */
  async function offered(...words: string[]): Promise<string[]> {
    const script = `
      source <("$0" "$1" completion bash); shift
      # As readline splits it: ":" and "=" are words of their own.
      COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _arca
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = await command('bash', ['-c', script, process.execPath, ARCA, ...words]);
    expect(stderr).toBe('');
    return stdout.split('\n').filter(Boolean);
  }

  it('offers verbs, options, and names that arca-control knows', async () => {
    await control.createNetwork({ name: 'net-a' });
    await control.createNetwork({ name: 'two words' });
    await control.createNetwork({ name: 'evil\n$(reboot)' });
    await control.attach({ container: 'web', network: 'net-a' });
    expect(await offered('arca', 'net')).toEqual(['network']);
    expect(await offered('arca', 'network', 'i')).toEqual(['inspect']);
    expect(await offered('arca', 'network', 'create', '--su')).toEqual(['--subnet']);
    expect(await offered('arca', 'network', 'rm', '')).toEqual(['net-a', 'two\\ words']);
    expect(await offered('arca', 'network', 'rm', '"two')).toEqual(['two words']);
    expect(await offered('arca', 'detach', 'w')).toEqual(['web']);
    expect(await offered('arca', 'ps', '--control', 'unix', ':', path, '--network', 'ne')).toEqual(['net-a']);
    expect(await offered('arca', '--control', 'unix', ':', '/nonexistent', 'network', 'rm', '')).toEqual([]);
    expect(await offered('arca', 'completion', '')).toEqual(['bash', 'zsh', 'fish']);
  });

  it('has a script for each shell, and help that shows how to load it', async () => {
    for (const shell of ['bash', 'zsh', 'fish'])
      expect((await arca('completion', shell)).stdout).toContain('__complete');
    expect(await arca('completion', 'tcsh')).toMatchObject({ exitCode: ERROR_KINDS.usage.exitCode });
    expect((await arca('completion', '--help')).stdout).toContain('source <(arca completion bash)');
  });
});

describe('help', () => {
  it('of each verb has its options and ends with 0', async () => {
    const help = await arca('--help');
    expect(help.exitCode).toBe(0);
    for (const verb of ['network', 'attach', 'detach', 'ps', 'events', 'health', 'chassis', 'reconcile', 'sandbox']) {
      expect(help.stdout).toMatch(new RegExp(`^ {2}${verb} `, 'm'));
    }
    expect(help.stdout).not.toContain('__complete');
    for (const kind of Object.values(ERROR_KINDS)) expect(help.stdout).toContain(`${kind.exitCode}  ${kind.meaning}`);
    expect((await arca('attach', '--help')).stdout).toContain('arca attach web --network net-a');
    for (const words of [['network', 'ls'], ['ps'], ['health']]) {
      expect((await arca(...words, '--help')).stdout).toContain('--watch');
    }
  });
});
