/** Those of this repository: the product, and what the bench measures it against. */
import { join } from 'node:path';
import { run } from '../../src/exec.js';
import { type Context, canRun } from '../context.js';
import { INTERFACE, ip } from '../lab.js';
import { type Contender, startBoth } from './contender.js';

const HELP_MS = 2000;

export const veth: Contender = {
  name: 'veth',
  description: 'a veth pair between the namespaces, no process at all: the ceiling',
  missing: async () => undefined,
  async start(_context, pair) {
    await ip([
      ...['link', 'add', INTERFACE, 'netns', pair.a, 'type', 'veth'],
      ...['peer', 'name', INTERFACE, 'netns', pair.b],
    ]);
    return [];
  },
};

export const naive: Contender = {
  name: 'naive',
  description: 'two naive relays: one frame a read, header and body in two writes (the ancestor’s loop)',
  missing: ({ programs }) => notBuilt(programs.naiveRelay),
  async start(context, pair) {
    const path = join(pair.directory, 'stream');
    const command = (role: string): string[] => [context.programs.naiveRelay, role, path, '--tap', INTERFACE];
    return startBoth(context, pair, command('--listen'), command('--connect'));
  },
};

/** `program` is an arca-tap; options are added if it has them (an older one may not). */
function arcaPair(
  name: string,
  description: string,
  program: (context: Context) => string,
  options: readonly string[],
): Contender {
  return {
    name,
    description,
    missing: async (context) => (await notBuilt(program(context))) ?? (await lacksOption(program(context), options[0])),
    async start(context, pair, mtu) {
      const path = `unix:${join(pair.directory, 'stream')}`;
      const command = (role: string): string[] => [
        ...[program(context), role, path, '--tap', INTERFACE, '--mtu', String(mtu), '--quiet'],
        ...options,
      ];
      return startBoth(context, pair, command('--listen'), command('--connect'));
    },
  };
}

const ownArcaTap = ({ programs }: Context): string => programs.arcaTap;

export const arca = arcaPair('arca', 'arca-tap at both ends, offloads negotiated', ownArcaTap, []);

export const batched = arcaPair('batched', 'arca-tap at both ends with --offload off: batching alone', ownArcaTap, [
  '--offload',
  'off',
]);

export const arcaBusyPoll = arcaPair('arca-busy', 'arca-tap at both ends with --busy-poll 2000', ownArcaTap, [
  '--busy-poll',
  '2000',
]);

/** Another build of arca-tap, for before and after in one run. */
export function otherArca(label: string, path: string): Contender {
  return arcaPair(`arca:${label}`, `arca-tap at both ends, from the build given as ${label}`, () => path, []);
}

export const arcaPlain: Contender = {
  name: 'arca-plain',
  description: 'arca-tap at one end; at the other (the sender of a→b) a batching peer that knows plain records only',
  missing: async ({ programs }) => (await notBuilt(programs.arcaTap)) ?? (await notBuilt(programs.plainPeer)),
  async start(context, pair, mtu) {
    const path = join(pair.directory, 'stream');
    return startBoth(
      context,
      pair,
      [context.programs.plainPeer, '--connect', path, '--tap', INTERFACE],
      [
        ...[context.programs.arcaTap, '--listen', `unix:${path}`],
        ...['--tap', INTERFACE, '--mtu', String(mtu), '--quiet'],
      ],
    );
  },
};

async function notBuilt(program: string): Promise<string | undefined> {
  return (await canRun(program)) ? undefined : `${program} is not built: npm run build`;
}

async function lacksOption(program: string, option: string | undefined): Promise<string | undefined> {
  if (option === undefined) return undefined;
  const { stdout } = await run(program, ['--help'], { timeoutMs: HELP_MS });
  return stdout.includes(option) ? undefined : `this arca-tap has no ${option}`;
}
