/**
 * A connection to ovsdb-server that is made anew whenever it is lost, with its monitor: for whoever lives longer than
 * the server does. One loop connects, waits for the end, and connects again, with a pause that grows. Of a cluster it
 * goes from server to server until it finds the leader, and leaves that when it does not lead any more.
 */
import { createLatch } from '../latch.js';
import { connectOvsdb, type MonitorSpec, type OvsdbClient, type OvsdbOptions, type Tables } from './client.js';
import { type RpcServer, type RpcTarget, serversOf, targetText } from './remote.js';
import { type CallOptions, RpcError } from './rpc-error.js';

export interface OvsdbSession {
  readonly client: OvsdbClient;
  /** Kept up to date while the connection lives, and never after. */
  readonly tables: Tables;
}

export interface LinkOptions extends Pick<OvsdbOptions, 'probeIntervalMs' | 'probeTimeoutMs'> {
  readonly target: RpcTarget;
  readonly database: string;
  readonly monitor: MonitorSpec;
  /** Only the leader of the cluster that the database is of; by default, when `target` names several servers. */
  readonly leaderOnly?: boolean | undefined;
  /** Called after each change of the tables, and each time that there is a session, or none any more. It must not throw. */
  readonly onChange: () => void;
  /** Has a new session to itself before anybody else gets it; if it rejects, the connection is given up. */
  readonly prepare?: ((session: OvsdbSession, options: CallOptions) => Promise<void>) | undefined;
  /** Of each step of making a connection. */
  readonly connectTimeoutMs?: number | undefined;
}

export interface OvsdbLink {
  /** Nothing while there is no connection. */
  session(): OvsdbSession | undefined;
  /** Why there is no connection; nothing while there is one, or before the first attempt ended. */
  failure(): Error | undefined;
  /** The session, or the next one. Rejects with why there is none; tries to connect at once. */
  waitForSession(options: CallOptions): Promise<OvsdbSession>;
  /** Gives the connection up, as when the server closed it, and makes another. For a server that does not answer. */
  drop(): void;
  /** Safe to call twice. Resolves when nothing is left: no timer, no connection. */
  stop(): Promise<void>;
}

const FIRST_RETRY_MS = 10;
const LAST_RETRY_MS = 500;
const CONNECT_TIMEOUT_MS = 5000;

/** Returns at once, and connects in the background. */
export function openOvsdbLink(options: LinkOptions): OvsdbLink {
  const { target, database, monitor, onChange, prepare, connectTimeoutMs = CONNECT_TIMEOUT_MS } = options;
  const { probeIntervalMs, probeTimeoutMs, leaderOnly = target.transport === 'cluster' } = options;
  const leaderOf = leaderOnly ? database : undefined;
  const stopping = new AbortController();
  const { signal } = stopping;
  const latch = createLatch();
  const waiters = new Set<() => void>();
  const call = { timeoutMs: connectTimeoutMs, signal };
  let session: OvsdbSession | undefined;
  let failure: Error | undefined;

  function tell(now: { readonly session?: OvsdbSession; readonly failure?: Error }): void {
    ({ session, failure } = now as { session: OvsdbSession | undefined; failure: Error | undefined });
    for (const check of [...waiters]) check();
    onChange();
  }

  async function makeSession(server: RpcServer): Promise<OvsdbSession> {
    const client = await connectOvsdb(server, { ...call, probeIntervalMs, probeTimeoutMs, leaderOf });
    try {
      const changed = (): void => {
        if (session?.client === client) onChange();
      };
      const made = { client, tables: await client.monitor(database, monitor, changed, call) };
      await prepare?.(made, call);
      return made;
    } catch (error) {
      client.close();
      throw error;
    }
  }

  async function keepConnected(): Promise<void> {
    const servers = serversOf(target);
    let retryMs = FIRST_RETRY_MS;
    for (let turn = 0; !signal.aborted; turn++) {
      const server = servers[turn % servers.length] as RpcServer;
      try {
        const made = await makeSession(server);
        const madeAt = performance.now();
        tell({ session: made });
        const end = (): void => made.client.close();
        signal.addEventListener('abort', end, { once: true });
        if (signal.aborted) end();
        tell({ failure: await made.client.closed });
        signal.removeEventListener('abort', end);
        // A server that takes connections only to close them is not worth a hot loop.
        if (performance.now() - madeAt > LAST_RETRY_MS) retryMs = FIRST_RETRY_MS;
      } catch (error) {
        tell({ failure: error instanceof Error ? error : new Error(String(error)) });
      }
      // The others are asked at once: one of them leads by now, or is still there.
      if ((turn + 1) % servers.length !== 0) continue;
      await latch.wait({ timeoutMs: retryMs, signal });
      retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
    }
  }

  const kept = keepConnected();

  return {
    session: () => session,
    failure: () => failure,

    waitForSession({ timeoutMs, signal: callSignal }) {
      return new Promise((resolve, reject) => {
        const finish = (settle: () => void): void => {
          waiters.delete(check);
          clearTimeout(timer);
          callSignal?.removeEventListener('abort', check);
          signal.removeEventListener('abort', check);
          settle();
        };
        const check = (): void => {
          if (callSignal?.aborted) finish(() => reject(new RpcError('aborted', 'aborted')));
          else if (signal.aborted)
            finish(() => reject(new RpcError('closed', `the link to ${targetText(target)} was stopped`)));
          else if (session !== undefined) {
            const made = session;
            finish(() => resolve(made));
          }
        };
        const timer = setTimeout(() => {
          const silent = new RpcError(
            'timed-out',
            `${targetText(target)} gave no connection in ${Math.round(timeoutMs)} ms`,
          );
          finish(() => reject(failure ?? silent));
        }, timeoutMs);
        waiters.add(check);
        callSignal?.addEventListener('abort', check, { once: true });
        signal.addEventListener('abort', check, { once: true });
        check();
        if (session === undefined) latch.set();
      });
    },

    drop() {
      session?.client.close();
    },

    async stop() {
      stopping.abort();
      await kept;
    },
  };
}
