/** A contender joins the two namespaces of a pair by an interface called `bench0` in each. */
import type { Context } from '../context.js';
import { ADDRESS_A, ADDRESS_B, INTERFACE, inNetns, ip, type Pair } from '../lab.js';
import type { Running } from '../processes.js';
import { endsOf, firstAnswer } from '../tools.js';
import { until } from '../until.js';

export interface Contender {
  readonly name: string;
  readonly description: string;
  /** It carries no larger frames; undefined: as large as a TAP's. */
  readonly mostMtu?: number;
  /** Why it can't run here and what would make it; undefined when it can. */
  missing(context: Context): Promise<string | undefined>;
  /**
   * Starts whatever moves the frames. What comes back are the processes whose CPU time is the contender's; both
   * interfaces exist soon after. Addresses and MTU are set by the caller, the same way for all.
   */
  start(context: Context, pair: Pair, mtu: number): Promise<readonly Running[]>;
}

export interface Link {
  readonly contender: string;
  readonly pair: Pair;
  readonly mtu: number;
  readonly processIds: readonly number[];
  /** Throws when a process of the contender has ended, with what it said. */
  check(): void;
  close(): Promise<void>;
}

const INTERFACE_MS = 5000;
const FIRST_ANSWER_MS = 5000;

/** A link that answers. What a failed start had made is gone. */
export async function openLink(context: Context, contender: Contender, mtu: number): Promise<Link> {
  const pair = await context.lab.addPair(contender.name.replaceAll(/[^a-z0-9]/g, '-'));
  let processes: readonly Running[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(processes.map((process) => process.stop()));
    await pair.remove();
  };
  try {
    processes = await contender.start(context, pair, mtu);
    if (processes.length > 0) {
      context.note(
        `contender ${contender.name}`,
        processes.map((process) => process.commandLine),
      );
    }
    const check = (): void => {
      for (const process of processes) {
        if (process.hasEnded()) throw new Error(`${process.commandLine} has ended: ${process.output().trim()}`);
      }
    };
    await configure(pair.a, ADDRESS_A, mtu, check);
    await configure(pair.b, ADDRESS_B, mtu, check);
    await firstAnswer(context, endsOf(pair), FIRST_ANSWER_MS);
    return {
      contender: contender.name,
      pair,
      mtu,
      processIds: processes.map((process) => process.pid),
      check,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

export async function waitForDevice(netns: string, name: string, check: () => void = () => {}): Promise<void> {
  await until(`${name} in ${netns}`, INTERFACE_MS, async () => {
    check();
    const { stdout } = await ip(['-n', netns, '-json', 'link', 'show']);
    return (JSON.parse(stdout) as { readonly ifname: string }[]).some((link) => link.ifname === name);
  });
}

async function configure(netns: string, address: string, mtu: number, check: () => void): Promise<void> {
  await waitForDevice(netns, INTERFACE, check);
  await ip(['-n', netns, 'link', 'set', INTERFACE, 'mtu', String(mtu), 'up']);
  await ip(['-n', netns, 'addr', 'add', `${address}/24`, 'dev', INTERFACE]);
}

/** One process in each namespace. The first is the one that the second connects to. */
export function startBoth(
  context: Context,
  pair: Pair,
  commandA: readonly string[],
  commandB: readonly string[],
): readonly Running[] {
  return [context.processes.start(inNetns(pair.a, commandA)), context.processes.start(inNetns(pair.b, commandB))];
}
