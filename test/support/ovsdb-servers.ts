/** Database servers for tests, without a switch behind them: real ovsdb-server processes in a folder of their own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../../src/exec.js';
import { type Background, startInBackground } from './background.js';
import { eventually, scaled } from './time.js';

export const OVS_SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';
export const NORTHBOUND_SCHEMA = '/usr/share/ovn/ovn-nb.ovsschema';
export const SOUTHBOUND_SCHEMA = '/usr/share/ovn/ovn-sb.ovsschema';

export interface OvsdbServer {
  readonly target: { readonly transport: 'unix'; readonly path: string };
  /** As the tools of OVS take it. */
  readonly remote: string;
  /** `ovs-appctl` to this server. */
  control(...args: string[]): Promise<string>;
  /** The port of `ptcp:0:...` or `pssl:0:...`, which the server chose. */
  port(): Promise<number>;
  kill(signal: NodeJS.Signals): void;
  /** Resolves when it listens. */
  start(): Promise<void>;
  /** SIGKILL, if it still runs. */
  stop(): Promise<void>;
}

export interface OvsdbServers {
  readonly folder: string;
  /** Makes a database file of a schema; gives its path. */
  createDatabase(name: string, schema: string): Promise<string>;
  /** `args`: more remotes, keys. It is started. */
  serve(files: readonly string[], ...args: string[]): Promise<OvsdbServer>;
  /** Three servers of one database, all started. */
  startCluster(database: string, schema: string, ...args: string[]): Promise<readonly OvsdbServer[]>;
  /** What the program printed. Its deadline is a test's. */
  tool(command: string, ...args: string[]): Promise<string>;
  /** Ends all of them, and the folder goes. */
  remove(): Promise<void>;
}

const CLUSTER_SIZE = 3;
const TOOL_MS = 10_000;

export function ovsdbServers(): OvsdbServers {
  const folder = mkdtempSync(join(tmpdir(), 'arca-db-'));
  const servers: OvsdbServer[] = [];
  let count = 0;
  // Sockets without a path, and whatever a tool looks for by itself: not among the system's own.
  const env = { ...process.env, OVS_RUNDIR: folder, OVS_DBDIR: folder, OVS_LOGDIR: folder };

  const tool = async (command: string, ...args: string[]): Promise<string> =>
    (await run(command, args, { timeoutMs: scaled(TOOL_MS), env })).stdout;

  async function serve(files: readonly string[], ...args: string[]): Promise<OvsdbServer> {
    const name = `server-${count++}`;
    const path = join(folder, `${name}.sock`);
    const controlPath = join(folder, `${name}.ctl`);
    let running: Background | undefined;
    const server: OvsdbServer = {
      target: { transport: 'unix', path },
      remote: `unix:${path}`,
      control: async (...command) => (await tool('ovs-appctl', '-t', controlPath, ...command)).trim(),
      async port() {
        const line = await running?.stderr.waitFor(/listening on port \d+/);
        return Number(/listening on port (\d+)/.exec(line ?? '')?.[1]);
      },
      kill: (signal) => running?.kill(signal),
      async start() {
        running = startInBackground(
          'ovsdb-server',
          [...files, `--remote=punix:${path}`, `--unixctl=${controlPath}`, '-vsyslog:off', '-vconsole:info', ...args],
          { env },
        );
        await eventually(
          () => `ovsdb-server to answer: ${running?.stderr.all.join('\n')}`,
          () => server.control('version').catch(() => undefined),
        );
      },
      async stop() {
        await running?.destroy();
      },
    };
    servers.push(server);
    await server.start();
    return server;
  }

  return {
    folder,
    tool,
    serve,

    async createDatabase(name, schema) {
      const path = join(folder, name);
      await tool('ovsdb-tool', 'create', path, schema);
      return path;
    },

    async startCluster(database, schema, ...args) {
      const first = count;
      const raft = (index: number): string => `unix:${join(folder, `${first + index}.raft`)}`;
      const cluster: OvsdbServer[] = [];
      for (let index = 0; index < CLUSTER_SIZE; index++) {
        const file = join(folder, `cluster-${first + index}.db`);
        if (index === 0) await tool('ovsdb-tool', 'create-cluster', file, schema, raft(0));
        else await tool('ovsdb-tool', 'join-cluster', file, database, raft(index), raft(0));
        cluster.push(await serve([file], ...args));
      }
      for (const { remote } of cluster) {
        await tool(
          'ovsdb-client',
          `--timeout=${Math.ceil(scaled(TOOL_MS) / 1000)}`,
          'wait',
          remote,
          database,
          'connected',
        );
      }
      return cluster;
    },

    async remove() {
      for (const server of servers) await server.stop();
      rmSync(folder, { recursive: true });
    },
  };
}
