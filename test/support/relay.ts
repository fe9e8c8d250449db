/** arca-relay as its user starts it: in the sandbox's network namespace, with its events read from `--notify-fd`. */
import { request } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RelayEvent } from '../../src/relay/notify.js';
import type { RelayStatus } from '../../src/relay/relay.js';
import { type Ended, EXTRA_FD, startInBackground, type WaitOptions } from './background.js';
import { newEndpoint, type TestEndpoint } from './endpoint.js';
import type { TestSandbox } from './sandbox.js';
import { scaled, within } from './time.js';

export const RELAY_PROGRAM = fileURLToPath(new URL('../../dist/cli/arca-relay.js', import.meta.url));

const STOP_TIMEOUT_MS = 3_000;

type EventName = RelayEvent['event'];
type EventOf<Name extends EventName> = RelayEvent & { readonly event: Name };

export interface RelayProcess {
  readonly pid: number;
  readonly endpoint: TestEndpoint;
  readonly tap: string;
  /** All events so far; grows. */
  readonly events: readonly RelayEvent[];
  /**
   * The first such event of those from `since` on, also one that is past. Rejects at the deadline and when the relay
   * has ended without it, with its log. `const mark = relay.events.length` before an action, then `{ since: mark }`.
   */
  waitFor<Name extends EventName>(name: Name, options?: WaitOptions): Promise<EventOf<Name>>;
  waitFor(matches: (event: RelayEvent) => boolean, options?: WaitOptions): Promise<RelayEvent>;
  /** What it wrote to stderr so far. */
  log(): string;
  readonly ended: Promise<Ended>;
  /** Its end, within the time. */
  waitForEnd(timeoutMs?: number): Promise<Ended>;
  isRunning(): boolean;
  kill(signal: NodeJS.Signals): boolean;
  /** SIGTERM, and its end. */
  stop(): Promise<Ended>;
  /** GET /status; only with `withStatus`. */
  status(): Promise<RelayStatus>;
  /** GET /metrics; only with `withStatus`. */
  metrics(): Promise<string>;
}

export interface RelayStart {
  readonly network?: string;
  /** Another relay's, to start the same command again. */
  readonly endpoint?: TestEndpoint;
  /** Instead of those of the endpoint. */
  readonly endpointArgs?: readonly string[];
  readonly args?: readonly string[];
  readonly withStatus?: boolean;
  /** Command and arguments that run the relay, for example `setpriv ...`. */
  readonly wrapper?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts it, and does not wait. It is stopped at the end of the test if it still runs. */
export function spawnRelay(sandbox: TestSandbox, start: RelayStart): RelayProcess {
  const endpoint = start.endpoint ?? newEndpoint(sandbox);
  const statusPath = join(sandbox.runDir, `${endpoint.tap}.http`);
  const commandLine = [
    ...(start.wrapper ?? []),
    process.execPath,
    RELAY_PROGRAM,
    ...(start.endpointArgs ?? endpoint.relayArgs),
    ...(start.network === undefined ? [] : ['--network', start.network]),
    // The run directory in the command line is also what the process is known by.
    ...['--ovs', `unix:${join(sandbox.runDir, 'db.sock')}`],
    ...['--timeout', String(scaled(10_000) / 1000)],
    ...['--notify-fd', String(EXTRA_FD), '--log-format', 'json'],
    ...(start.withStatus ? ['--metrics', `unix:${statusPath}`] : []),
    ...(start.args ?? []),
  ];
  const [command = '', ...args] = commandLine;
  const process_ = startInBackground(...sandbox.inNamespace(command, args), {
    env: { ...sandbox.fullEnv, ...start.env },
  });
  sandbox.defer(async () => {
    // In its own way first, so that a test that failed does not leave its port to the next one.
    process_.kill('SIGTERM');
    await within(process_.ended, 'the end of the relay', STOP_TIMEOUT_MS).catch(() => {});
    await process_.destroy();
  });

  const events: RelayEvent[] = [];
  const readEvents = (): readonly RelayEvent[] => {
    for (const line of process_.extra.all.slice(events.length)) events.push(JSON.parse(line) as RelayEvent);
    return events;
  };

  const relay: RelayProcess = {
    pid: process_.pid,
    endpoint,
    tap: endpoint.tap,
    get events() {
      return readEvents();
    },
    async waitFor(matches: EventName | ((event: RelayEvent) => boolean), options?: WaitOptions) {
      const test =
        typeof matches === 'string'
          ? (event: RelayEvent) => event.event === matches
          : (event: RelayEvent) => matches(event);
      try {
        const line = await process_.extra.waitFor((text) => test(JSON.parse(text) as RelayEvent), options);
        // biome-ignore lint/suspicious/noExplicitAny: the overloads above say which it is
        return JSON.parse(line) as any;
      } catch (error) {
        throw new Error(`no event ${matches}\n${(error as Error).message}\nlog:\n${relay.log()}`);
      }
    },
    log: () => process_.stderr.all.join('\n'),
    ended: process_.ended,
    waitForEnd: (timeoutMs = 5_000) =>
      within(process_.ended, () => `the end of the relay, which said:\n${relay.log()}`, timeoutMs),
    isRunning: process_.isRunning,
    kill: process_.kill,
    stop() {
      process_.kill('SIGTERM');
      return relay.waitForEnd();
    },
    status: async () => JSON.parse(await httpGet(statusPath, '/status')) as RelayStatus,
    metrics: () => httpGet(statusPath, '/metrics'),
  };
  return relay;
}

/** Starts it, and resolves when it said ready. */
export async function startRelay(sandbox: TestSandbox, start: RelayStart): Promise<RelayProcess> {
  const relay = spawnRelay(sandbox, start);
  await relay.waitFor('ready');
  return relay;
}

function httpGet(socketPath: string, path: string): Promise<string> {
  const answer = new Promise<string>((resolve, reject) => {
    const asking = request({ socketPath, path, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        body += text;
      });
      response.on('end', () =>
        response.statusCode === 200 ? resolve(body) : reject(new Error(`${path}: ${response.statusCode} ${body}`)),
      );
    });
    asking.on('error', reject);
    asking.end();
  });
  return within(answer, `GET ${path} on ${socketPath}`);
}
