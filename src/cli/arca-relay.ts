#!/usr/bin/env node
/** `arca-relay`: argv, exit code and signals of one relay. */
import { Command, Option } from 'commander';
import { REMOTES_FORM } from '../arguments.js';
import { type ArcaError, exitCodeLines, toArcaError } from '../errors.js';
import { createLogger, LOG_FORMATS, LOG_LEVELS, type LogFormat, type Logger, type LogLevel } from '../log.js';
import { beginLookUps, type LookUps } from '../relay/look-ups.js';
import { createNotifier, type Notifier } from '../relay/notify.js';
import { type RelayArguments, type RelayOptions, readNotifyFd, readRelayOptions } from '../relay/options.js';
import { startRelay } from '../relay/relay.js';
import { readVersion } from '../version.js';
import { aborted, list, loadAddon, type Native, parseCommandLine, watchSignals } from './daemon/life.js';
import { CA_CERTIFICATE, CERTIFICATE, PRIVATE_KEY } from './tls-options.js';

interface CommandLine extends RelayArguments {
  readonly notifyFd?: string;
  readonly logLevel: LogLevel;
  readonly logFormat?: LogFormat;
}

const EXAMPLES = `
Examples:
  arca-relay --port 5555 --network net-a --peer-cid 7
  arca-relay --listen unix:/run/arca/web.sock --tap tap-web --vlan 100
  arca-relay --connect vsock:7:5555 --network net-a --on-second-peer replace
  arca-relay --port 5555 --network net-a --peer-address 10.9.0.2/24 --peer-gateway 10.9.0.1 --peer-dns 10.9.0.1

Exit codes:
${exitCodeLines((code) => code !== 'sandbox-failed' && code !== 'datapath-missing').join('\n')}
`;

function buildCommand(version: string): Command {
  return new Command('arca-relay')
    .description('Moves Ethernet frames between a container (over vsock) and a port with a VLAN tag of an OVS bridge.')
    .version(version)
    .allowExcessArguments(false)
    .optionsGroup('Where the container is (exactly one):')
    .option('--port <n>', 'listen on this vsock port, any CID')
    .option('--listen <endpoint>', 'listen on vsock:[CID:]PORT or unix:PATH')
    .option('--connect <endpoint>', 'dial vsock:CID:PORT or unix:PATH')
    .optionsGroup('Where the frames go:')
    .option('--network <name>', 'OVN logical switch; its external_ids:vlan_tag is the tag')
    .option('--vlan <tag>', 'the tag, 1 to 4094, instead of the look-up')
    .option('--bridge <name>', 'OVS bridge', 'br-int')
    .option('--attach <mode>', 'vlan: by tag; auto: whatever works', 'vlan')
    .option('--tap <name>', 'name of the TAP device, at most 15 bytes (default: tap<port>)')
    .option('--mtu <bytes>', 'MTU of the TAP', '1500')
    .optionsGroup('Who may connect, and how frames are sent:')
    .option('--peer-cid <cid>', 'allow this vsock CID; repeatable (default: any)', list)
    .option('--on-second-peer <policy>', 'refuse, or replace the first', 'refuse')
    .option('--burst <bytes>', 'largest send; 1: each frame by itself (default: by transport)')
    .option('--offload <mode>', 'auto: whatever the switch and the peer take; uso: UDP segmentation too; off', 'auto')
    .option('--busy-poll <us>', 'ask for frames so long before sleeping: less latency, more CPU', '0')
    .optionsGroup("What the container's end is told (arca-tap configures its interface by it):")
    .option('--peer-mac <mac>', 'MAC of its interface')
    .option('--peer-address <cidr>', 'address of its interface; repeatable', list)
    .option('--peer-gateway <address>', 'default gateway; repeatable', list)
    .option('--peer-dns <address>', 'DNS server; repeatable', list)
    .optionsGroup('Open vSwitch and OVN:')
    .option('--ovs <unix:path>', 'OVS database (default: as ovs-vsctl)')
    .option('--nb <remotes>', `OVN northbound database: ${REMOTES_FORM} (default: as ovn-nbctl)`)
    .addOption(PRIVATE_KEY)
    .addOption(CERTIFICATE)
    .addOption(CA_CERTIFICATE)
    .option('--timeout <seconds>', 'for the whole start', '10')
    .optionsGroup('Observing:')
    .option('--metrics <endpoint>', 'GET /metrics, /status and /events on unix:PATH or HOST:PORT')
    .option('--notify-fd <n>', 'write one JSON line for each event to this descriptor')
    .addOption(new Option('--log-level <level>', 'least level to log').choices(LOG_LEVELS).default('info'))
    .addOption(new Option('--log-format <format>', 'default: pretty on a terminal').choices(LOG_FORMATS))
    .addHelpText('after', EXAMPLES);
}

interface Begun {
  readonly native: Native;
  readonly options: RelayOptions;
  readonly lookUps: LookUps;
}

async function begin(commandLine: CommandLine, signal: AbortSignal): Promise<Begun> {
  const native = await loadAddon();
  const options = readRelayOptions(commandLine, native.parseEndpoint);
  return { native, options, lookUps: beginLookUps(options, process.env, signal) };
}

function openNotifier(commandLine: CommandLine, native: Begun['native'] | undefined, log: Logger): Notifier {
  const socket = process.env['NOTIFY_SOCKET'];
  const systemd = socket && native ? { socket, send: native.sdNotify } : undefined;
  return createNotifier({ fd: readNotifyFd(commandLine.notifyFd), systemd, log });
}

/** Resolves when a signal has ended the relay and all of it is undone. */
async function runRelay(
  { native, options, lookUps }: Begun,
  notifier: Notifier,
  log: Logger,
  version: string,
  signal: AbortSignal,
): Promise<void> {
  const engine = new native.Engine({ busyPollUs: options.busyPollUs });
  let ending: ArcaError | string;
  try {
    const relay = await startRelay(options, lookUps, { engine, notifier, log, env: process.env, version }, signal);
    ending = await Promise.race([relay.failed, aborted(signal)]);
    try {
      await relay.stop(typeof ending === 'string' ? ending : ending.code);
    } catch (error) {
      // What ended the relay is the error to tell; that the port may be left is told beside it.
      if (typeof ending === 'string') throw error;
      log.error({ err: error }, 'could not stop cleanly');
    }
  } catch (error) {
    const failure = toArcaError(error);
    // A signal during the start ends it with an error of whatever step it was in; all of it was undone.
    if (!signal.aborted || failure.code === 'cleanup-incomplete') throw failure;
    ending = await aborted(signal);
  } finally {
    await engine.close();
  }
  if (typeof ending !== 'string') throw ending;
  notifier.emit({ event: 'stopped', reason: ending });
}

async function main(): Promise<number> {
  const version = readVersion();
  const commandLine = parseCommandLine<CommandLine>(buildCommand(version));
  if (typeof commandLine === 'number') return commandLine;

  const signal = watchSignals();
  // What waits for OVN and OVS begins first: the log takes some time to load, and loads meanwhile.
  const [begun] = await Promise.allSettled([begin(commandLine, signal)]);
  const log = await createLogger({
    level: commandLine.logLevel,
    format: commandLine.logFormat,
    fields: { program: 'arca-relay' },
  });
  let notifier: Notifier | undefined;
  try {
    notifier = openNotifier(commandLine, begun.status === 'fulfilled' ? begun.value.native : undefined, log);
    if (begun.status === 'rejected') throw begun.reason;
    const { role, endpoint, allowedCids } = begun.value.options;
    if (role === 'listen' && endpoint.transport === 'vsock' && allowedCids.length === 0) {
      log.warn({ vsockPort: endpoint.port }, 'no --peer-cid given: every CID may connect');
    }
    await runRelay(begun.value, notifier, log, version, signal);
    return 0;
  } catch (error) {
    const { code, message, exitCode, cause } = toArcaError(error);
    log.error({ code, ...(code === 'unexpected' && { err: cause }) }, message);
    notifier?.emit({ event: 'failed', code, message, exitCode });
    return exitCode;
  } finally {
    // Only where the relay did not come to take them over.
    if (begun.status === 'fulfilled') await begun.value.lookUps.cancel();
  }
}

process.exit(await main());
