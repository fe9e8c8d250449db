/** The measuring programs: iperf3 and our own ping-pong. What they print is read here and nowhere else. */
import { run } from '../src/exec.js';
import type { Context } from './context.js';
import { BenchError } from './errors.js';
import { ADDRESS_B, inNetns } from './lab.js';
import type { Histogram } from './stats.js';

/**
 * Of every flow, whatever the machine's default is: it decides the ceiling (one flow over veth was 23 Gbit/s with cubic
 * and 9 with bbr, which paces), and it is what a kernel has that nobody configured. Asked of iperf3 for each flow, since
 * a namespace may not be given another default than the machine allows its users.
 */
export const CONGESTION_CONTROL = 'cubic';

const IPERF_PORT = 5201;
const PINGPONG_PORT = 7777;
const READY_MS = 5000;
/** What iperf3 may take beyond its own time: its control connection shares a link that may be full. */
const IPERF_GRACE_MS = 8000;

/** The two ends that a measure runs between. */
export interface Ends {
  readonly client: string;
  readonly server: string;
  readonly serverAddress: string;
}

export function endsOf(pair: { readonly a: string; readonly b: string }): Ends {
  return { client: pair.a, server: pair.b, serverAddress: ADDRESS_B };
}

export interface IperfResult {
  /** Received, both directions together, bits per second. */
  readonly bitsPerSecond: number;
  readonly bytes: number;
  readonly retransmits: number;
  /** UDP: datagrams that arrived, and that did not. */
  readonly delivered: number;
  readonly lost: number;
  readonly seconds: number;
}

/** One run of iperf3, client arguments as given. The measured window is `between` start and end of the client. */
export async function iperf(
  context: Context,
  ends: Ends,
  args: readonly string[],
  key: string,
  seconds: number = context.seconds,
): Promise<IperfResult> {
  const port = String(IPERF_PORT);
  const server = inNetns(ends.server, ['iperf3', '-s', '-1', '-p', port, '--forceflush']);
  const client = inNetns(ends.client, [
    ...['iperf3', '-c', ends.serverAddress, '-p', port, '-J', '-i', '0', '-t', String(seconds)],
    ...(args.includes('-u') ? [] : ['-C', CONGESTION_CONTROL]),
    ...args,
  ]);
  context.note(key, [server.join(' '), client.join(' ')]);
  const serving = context.processes.start(server);
  try {
    await serving.waitForLine(/Server listening/, READY_MS);
    const [command = '', ...rest] = client;
    const timeoutMs = seconds * 1000 + IPERF_GRACE_MS;
    const { stdout } = await run(command, rest, { timeoutMs, signal: context.signal });
    return readIperf(stdout);
  } finally {
    await serving.stop();
  }
}

interface IperfSum {
  readonly bytes?: number;
  readonly seconds?: number;
  readonly bits_per_second?: number;
  readonly retransmits?: number;
  readonly packets?: number;
  readonly lost_packets?: number;
}

/** Exported for its test. */
export function readIperf(stdout: string): IperfResult {
  const report = JSON.parse(stdout) as {
    readonly error?: string;
    readonly start?: { readonly test_start?: { readonly protocol?: string } };
    readonly end?: Readonly<Record<string, IperfSum>>;
  };
  if (report.error !== undefined) throw new BenchError(`iperf3: ${report.error}`);
  const end = report.end ?? {};
  if (report.start?.test_start?.protocol === 'UDP') return readUdp(end['sum_sent'] ?? {}, end['sum_received'] ?? {});
  const received = [end['sum_received'], end['sum_received_bidir_reverse']].filter((sum) => sum !== undefined);
  const sent = [end['sum_sent'], end['sum_sent_bidir_reverse']].filter((sum) => sum !== undefined);
  const total = (sums: readonly IperfSum[], of: (sum: IperfSum) => number | undefined): number =>
    sums.reduce((sum, one) => sum + (of(one) ?? 0), 0);
  if (received.length === 0) throw new BenchError('iperf3: no sum_received in its report');
  return {
    bitsPerSecond: total(received, (sum) => sum.bits_per_second),
    bytes: total(received, (sum) => sum.bytes),
    retransmits: total(sent, (sum) => sum.retransmits),
    delivered: 0,
    lost: 0,
    seconds: received[0]?.seconds ?? 0,
  };
}

/** The server does not see what was lost at the very end: lost is what was sent and did not arrive. */
function readUdp(sent: IperfSum, received: IperfSum): IperfResult {
  const {
    packets = 0,
    lost_packets: missed = 0,
    bytes = 0,
    bits_per_second: bitsPerSecond = 0,
    seconds = 0,
  } = received;
  if (sent.packets === undefined || seconds === 0) throw new BenchError('iperf3: no datagrams in its report');
  const delivered = Math.max(0, packets - missed);
  const lost = Math.max(0, sent.packets - delivered);
  return { bitsPerSecond, bytes, retransmits: 0, delivered, lost, seconds };
}

export interface PingpongResult {
  readonly sent: number;
  readonly answered: number;
  readonly histogram: Histogram;
}

export interface PingpongOptions {
  readonly rateHz: number;
  readonly seconds: number;
  readonly warmupMs: number;
}

export async function pingpong(
  context: Context,
  ends: Ends,
  { rateHz, seconds, warmupMs }: PingpongOptions,
  key: string,
): Promise<PingpongResult> {
  const where = `${ends.serverAddress}:${PINGPONG_PORT}`;
  const { pingpong: program } = context.programs;
  const server = inNetns(ends.server, [program, '--serve', where]);
  const client = inNetns(ends.client, [
    ...[program, '--to', where, '--rate', String(rateHz), '--seconds', String(seconds)],
    ...['--warmup-ms', String(warmupMs)],
  ]);
  context.note(key, [server.join(' '), client.join(' ')]);
  const serving = context.processes.start(server);
  try {
    await serving.waitForLine(/ready/, READY_MS);
    const [command = '', ...rest] = client;
    const timeoutMs = seconds * 1000 + warmupMs + READY_MS;
    const { stdout } = await run(command, rest, { timeoutMs, signal: context.signal });
    return JSON.parse(stdout) as PingpongResult;
  } finally {
    await serving.stop();
  }
}

/** Asks the server's end until it answers. */
export interface FirstAnswer {
  /** Rejects at the deadline. */
  readonly answer: Promise<void>;
  stop(): Promise<void>;
}

/** The server's end has its address already; the client's may still have no interface. */
export async function startFirstAnswer(context: Context, ends: Ends, timeoutMs: number): Promise<FirstAnswer> {
  const where = `${ends.serverAddress}:${PINGPONG_PORT}`;
  const { pingpong: program } = context.programs;
  const serving = context.processes.start(inNetns(ends.server, [program, '--serve', where]));
  await serving.waitForLine(/ready/, READY_MS);
  const asking = context.processes.start(
    inNetns(ends.client, [program, '--to', where, '--first', '--seconds', String(timeoutMs / 1000)]),
  );
  const answer = asking.waitForLine(/"answered":true/, timeoutMs).then(
    () => {},
    (cause) => {
      throw new BenchError(`no answer through the link in ${timeoutMs} ms`, { cause });
    },
  );
  // Whoever stops before the answer does not wait for it.
  answer.catch(() => {});
  return {
    answer,
    async stop() {
      await asking.stop();
      await serving.stop();
    },
  };
}

/** Resolves when the server's end answers a datagram; throws at the deadline. */
export async function firstAnswer(context: Context, ends: Ends, timeoutMs: number): Promise<void> {
  const asking = await startFirstAnswer(context, ends, timeoutMs);
  try {
    await asking.answer;
  } finally {
    await asking.stop();
  }
}
