#!/usr/bin/env node
/** `arca-control`: argv, exit code and signals of the control process. */
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { REMOTES_FORM } from '../arguments.js';
import { type ControlApi, startControlApi } from '../control/api/server.js';
import {
  type ControlArguments,
  DEFAULT_RUN_DIR,
  DEFAULT_VSOCK_PORTS,
  type ReadControlOptions,
  readControlOptions,
  type VsockEndpoint,
} from '../control/options.js';
import { createControl } from '../control/service.js';
import { ArcaError, type ErrorCode, exitCodeLines, toArcaError } from '../errors.js';
import { createLogger, LOG_FORMATS, LOG_LEVELS, type LogFormat, type Logger, type LogLevel } from '../log.js';
import { listenFailure } from '../relay/native-errors.js';
import { createSystemdTeller } from '../systemd.js';
import { createUndoStack } from '../undo.js';
import { readVersion } from '../version.js';
import { aborted, list, loadAddon, type Native, parseCommandLine, watchSignals } from './daemon/life.js';
import { CA_CERTIFICATE, CERTIFICATE, PRIVATE_KEY } from './tls-options.js';

interface CommandLine extends ControlArguments {
  readonly logLevel: LogLevel;
  readonly logFormat?: LogFormat;
}

const RELAY_PROGRAM = fileURLToPath(new URL('arca-relay.js', import.meta.url));
/** Of callers over vsock. */
const MOST_VSOCK_CALLERS = 64;

const ENDS_WITH: readonly ErrorCode[] = [
  ...(['unexpected', 'usage', 'endpoint-in-use', 'endpoint-failed', 'permission-denied', 'vsock-missing'] as const),
  ...(['addon-missing', 'timed-out', 'cleanup-incomplete', 'forced-exit', 'chassis-conflict', 'spec-invalid'] as const),
];

const EXAMPLES = `
It serves HTTP and JSON on a Unix socket that root and one group may open (--socket-group): whoever may open it may do
everything. \`arca\` is its command line, GET /v1/openapi.json its description. Networks, tags and attachments live in the
OVN northbound database, so nothing is lost when this process ends: its relays go on, and the next one takes them over.
Databases that are not there yet are waited for; until then calls that need them fail with the reason.

Examples:
  arca-control                                     on the machine's own OVS and OVN, listening on unix:/run/arca/control.sock
  arca-control --chassis host-1 --encap-ip 192.0.2.1
  arca-control --listen unix:/run/arca/control.sock --listen vsock:4900 --peer-cid 2
  arca-control --nb ssl:db1:6641,ssl:db2:6641,ssl:db3:6641 --sb ssl:db1:6642,ssl:db2:6642,ssl:db3:6642 \\
               -p key.pem -c cert.pem -C cacert.pem
  arca-control --run-dir /tmp/arca --ovs unix:/tmp/sandbox/db.sock --nb unix:/tmp/sandbox/ovnnb_db.sock \\
               --sb unix:/tmp/sandbox/ovnsb_db.sock

Signals: SIGTERM, SIGINT and SIGHUP end it when the calls that run have ended; a second one ends it at once.

Exit codes:
${exitCodeLines((code) => ENDS_WITH.includes(code)).join('\n')}
`;

function buildCommand(version: string): Command {
  return new Command('arca-control')
    .description('Networks for containers that run in their own VM: keeps networks, attachments and their relays.')
    .version(version)
    .allowExcessArguments(false)
    .optionsGroup('Who may ask:')
    .option('--listen <endpoint>', 'unix:PATH or vsock:PORT; repeatable (default: unix:RUN_DIR/control.sock)', list)
    .option('--peer-cid <cid>', 'allow this vsock CID to call; repeatable', list)
    .option('--socket-group <name>', 'group that may open the Unix sockets, if there is one', 'arca')
    .optionsGroup('Open vSwitch and OVN:')
    .option('--ovs <unix:path>', 'OVS database (default: as ovs-vsctl)')
    .option('--nb <remotes>', `OVN northbound database: ${REMOTES_FORM} (default: as ovn-nbctl)`)
    .option('--sb <remotes>', 'OVN southbound database (default: as ovn-sbctl)')
    .addOption(PRIVATE_KEY)
    .addOption(CERTIFICATE)
    .addOption(CA_CERTIFICATE)
    .option('--bridge <name>', 'OVS bridge that containers are attached to', 'br-int')
    .option('--chassis <name>', 'register this host as a chassis, with --encap-ip')
    .option('--encap-ip <address>', 'address of this host that Geneve uses')
    .optionsGroup('Relays:')
    .option('--run-dir <dir>', 'directory of status sockets, logs and the lock', DEFAULT_RUN_DIR)
    .option('--vsock-ports <first-last>', 'vsock ports for attachments', DEFAULT_VSOCK_PORTS)
    .optionsGroup('Observing:')
    .addOption(new Option('--log-level <level>', 'least level to log').choices(LOG_LEVELS).default('info'))
    .addOption(new Option('--log-format <format>', 'default: pretty on a terminal').choices(LOG_FORMATS))
    .addHelpText('after', EXAMPLES);
}

interface Proxies {
  stop(): Promise<void>;
}

/** Callers of other VMs: their bytes are carried to our own Unix socket. */
function startProxies(
  native: Native,
  options: ReadControlOptions,
  log: Logger,
): { readonly stop: () => Promise<void> } {
  const [path = ''] = options.paths;
  const proxies = options.vsock.map((listen) => {
    const proxy = startProxy(native, listen, path, options.allowedCids, log);
    log.info({ listen: `vsock:${listen.port}`, allowedCids: options.allowedCids }, 'the control API listens');
    return proxy;
  });
  return {
    async stop() {
      await Promise.all(proxies.map((proxy) => proxy.stop()));
    },
  };
}

function startProxy(
  native: Native,
  listen: VsockEndpoint,
  path: string,
  allowedCids: readonly number[],
  log: Logger,
): ReturnType<Native['startStreamProxy']> {
  try {
    return native.startStreamProxy(
      { listen, target: { transport: 'unix', path }, allowedCids, maxConnections: MOST_VSOCK_CALLERS },
      (event) => log.warn({ ...event, vsockPort: listen.port }, 'a caller over vsock was not served'),
    );
  } catch (error) {
    throw listenFailure(error, listen);
  }
}

/** Resolves when a signal has ended it. */
async function runControl(commandLine: CommandLine, version: string, log: Logger, signal: AbortSignal): Promise<void> {
  const native = await loadAddon();
  const options = readControlOptions(commandLine, process.env, native.parseEndpoint);
  const notifySocket = process.env['NOTIFY_SOCKET'];
  const tellSystemd = notifySocket
    ? createSystemdTeller({ socket: notifySocket, send: native.sdNotify, log })
    : undefined;

  const undo = createUndoStack();
  let ending: string | ArcaError;
  let undoError: unknown;
  try {
    const relayProgram = [process.execPath, RELAY_PROGRAM] as const;
    const service = await createControl({ ...options.service, log, version, relayProgram, env: process.env, signal });
    undo.push('service', () => service.stop());
    const api: ControlApi = await startControlApi({
      ...{ service, paths: options.paths, group: options.socketGroup },
      ...{ log, version, signal },
    });
    // The API first: callers over vsock get the answers of calls that run, too.
    let proxies: Proxies | undefined;
    undo.push('proxies', () => proxies?.stop());
    undo.push('api', () => api.stop());
    proxies = startProxies(native, options, log);
    const where = options.paths.map((path) => `unix:${path}`).join(', ');
    log.info({ version, runDir: options.service.runDir }, 'ready');
    tellSystemd?.(`READY=1\nSTATUS=Serving on ${where}`);
    ending = await aborted(signal);
    log.info({ reason: typeof ending === 'string' ? ending : ending.message }, 'stopping; relays go on');
    tellSystemd?.('STOPPING=1');
  } catch (error) {
    // A signal during the start ends it with an error of whatever step it was in.
    if (!signal.aborted) throw error;
    ending = await aborted(signal);
  } finally {
    undoError = await undo.run(log);
  }
  if (typeof ending !== 'string') throw ending;
  if (undoError !== undefined) throw cleanUpFailure(undoError);
  log.info('stopped');
}

function cleanUpFailure(cause: unknown): ArcaError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new ArcaError('cleanup-incomplete', `could not stop cleanly: ${why}`, { cause });
}

async function main(): Promise<number> {
  const version = readVersion();
  const commandLine = parseCommandLine<CommandLine>(buildCommand(version));
  if (typeof commandLine === 'number') return commandLine;
  const signal = watchSignals();
  const { logLevel: level, logFormat: format } = commandLine;
  const log = await createLogger({ level, format, fields: { program: 'arca-control' } });
  try {
    await runControl(commandLine, version, log, signal);
    return 0;
  } catch (error) {
    const { code, message, exitCode, cause } = toArcaError(error);
    log.error({ code, ...(code === 'unexpected' && { err: cause }) }, message);
    return exitCode;
  }
}

process.exit(await main());
