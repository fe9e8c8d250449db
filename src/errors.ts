/**
 * Every failure that a user can meet has a code here, and each code its own exit code.
 * Code branches on `code`, never on text; scripts branch on the exit code. Both are stable: numbers are never reused.
 */

interface ErrorKind {
  /** Exit code of the process; under 64 or from 90 to 125, so that it never looks like sysexits(3), a shell's own or a signal. */
  readonly exitCode: number;
  /** One line for `--help`. */
  readonly meaning: string;
}

export const ERROR_KINDS = {
  unexpected: { exitCode: 1, meaning: 'an error that no other code names' },
  usage: { exitCode: 2, meaning: 'the command line is wrong' },

  'network-unknown': { exitCode: 10, meaning: 'the northbound database has no logical switch of that name' },
  'network-ambiguous': { exitCode: 11, meaning: 'two or more logical switches have that name' },
  'tag-missing': { exitCode: 12, meaning: 'the logical switch has no external_ids:vlan_tag' },
  'tag-invalid': { exitCode: 13, meaning: 'the VLAN tag is not a number from 1 to 4094' },
  'northbound-unreachable': { exitCode: 14, meaning: 'the OVN northbound database can not be reached' },
  'northbound-timeout': { exitCode: 15, meaning: 'the OVN northbound database did not answer in time' },

  'ovs-unreachable': { exitCode: 20, meaning: 'the OVS database can not be reached' },
  'ovs-timeout': { exitCode: 21, meaning: 'OVS (ovsdb-server or ovs-vswitchd) did not answer in time' },
  'bridge-missing': { exitCode: 22, meaning: 'OVS has no bridge of that name' },
  'bridge-black-hole': { exitCode: 23, meaning: 'the bridge would forward nothing for a port with a VLAN tag' },
  'attach-unsupported': { exitCode: 24, meaning: 'that way to attach is not in this version' },
  'attach-failed': { exitCode: 25, meaning: 'OVS did not take the port' },
  'ovs-port-in-use': { exitCode: 26, meaning: 'an OVS port of that name belongs to somebody else' },

  'endpoint-in-use': { exitCode: 30, meaning: 'somebody listens on that vsock port, address or Unix socket already' },
  'endpoint-failed': { exitCode: 31, meaning: 'the endpoint can not be listened on' },
  'tap-name-in-use': { exitCode: 32, meaning: 'a network device of that name exists' },
  'tap-name-invalid': { exitCode: 33, meaning: 'the kernel or OVS takes no device of that name' },
  'tap-failed': { exitCode: 34, meaning: 'the TAP device can not be made' },
  'permission-denied': { exitCode: 35, meaning: 'a capability or a file permission is missing' },
  'tun-missing': { exitCode: 36, meaning: '/dev/net/tun is missing' },
  'vsock-missing': { exitCode: 37, meaning: 'the kernel has no vsock' },
  'tap-lost': { exitCode: 38, meaning: 'the TAP device was removed while the relay ran' },

  'command-missing': { exitCode: 40, meaning: 'a program that is needed is not installed' },
  'command-failed': { exitCode: 41, meaning: 'a program that is needed failed' },
  'addon-missing': { exitCode: 42, meaning: 'the native addon is not built' },
  'timed-out': { exitCode: 43, meaning: 'something else did not happen in time' },

  'cleanup-incomplete': { exitCode: 50, meaning: 'stopped, but the OVS port could not be removed' },
  'forced-exit': { exitCode: 51, meaning: 'a second signal forced the exit; the OVS port may be left' },

  'sandbox-failed': { exitCode: 60, meaning: 'a part of the sandbox did not start or stop' },
  'datapath-missing': { exitCode: 61, meaning: 'the kernel has no Open vSwitch datapath' },
  'sandbox-missing': { exitCode: 62, meaning: 'no sandbox is up in that run directory' },

  'control-unreachable': { exitCode: 90, meaning: 'arca-control can not be reached' },
  'spec-invalid': { exitCode: 91, meaning: 'a name, address, MAC, tag or other property is not valid' },
  'network-conflict': { exitCode: 92, meaning: 'a network of that name exists with other properties' },
  'network-busy': { exitCode: 93, meaning: 'the network still has attachments' },
  'network-foreign': { exitCode: 94, meaning: 'the logical switch belongs to somebody else; adopt it first' },
  'tag-in-use': { exitCode: 95, meaning: 'another network has that VLAN tag' },
  'tags-exhausted': { exitCode: 96, meaning: 'every VLAN tag of the range is in use' },
  'subnet-overlap': { exitCode: 97, meaning: 'the subnet overlaps that of another network' },
  'attachment-unknown': { exitCode: 98, meaning: 'the container is not attached to that network' },
  'attachment-conflict': { exitCode: 99, meaning: 'the container is attached already, with other properties' },
  'address-in-use': { exitCode: 100, meaning: 'another container of the network has that address' },
  'mac-in-use': { exitCode: 101, meaning: 'another container has that MAC' },
  'ports-exhausted': { exitCode: 102, meaning: 'every vsock port of the range, or every address, is in use' },
  'chassis-conflict': { exitCode: 103, meaning: 'another chassis has that name or encapsulation address' },
  'chassis-unknown': { exitCode: 104, meaning: 'the southbound database has no chassis of that name' },
  'southbound-unreachable': { exitCode: 105, meaning: 'the OVN southbound database can not be reached' },
  'southbound-timeout': { exitCode: 106, meaning: 'the OVN southbound database did not answer in time' },
  'not-supported': { exitCode: 107, meaning: 'this is not done in this mode or version' },
  'part-ill': { exitCode: 108, meaning: 'a part of the network is ill (`arca health` says which)' },

  'state-invalid': { exitCode: 109, meaning: 'the state file is not valid' },
  'state-foreign': { exitCode: 110, meaning: 'a bridge or port of the state file belongs to somebody else' },
  'state-changed': { exitCode: 111, meaning: 'somebody else changed the system at the same time; nothing was done' },
  'state-incomplete': { exitCode: 112, meaning: 'the state was applied only in part, or taken back' },
  'flow-invalid': { exitCode: 113, meaning: 'ovs-ofctl does not take a flow of the state file' },
  'not-confirmed': { exitCode: 114, meaning: 'nobody said yes to the changes' },
  'not-persistent': { exitCode: 115, meaning: 'what OVS holds would not survive a reboot' },
  'doctor-warning': { exitCode: 116, meaning: 'the doctor warns of something' },
  'doctor-problem': { exitCode: 117, meaning: 'the doctor found something broken' },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERROR_KINDS;

/** The message says what failed, on what (switch, socket, daemon), and what mends it. */
export class ArcaError extends Error {
  readonly code: ErrorCode;
  /** For scripts: what differs, which step failed, and the like. */
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options?: { readonly cause?: unknown; readonly details?: Readonly<Record<string, unknown>> },
  ) {
    super(message, options);
    this.name = 'ArcaError';
    this.code = code;
    this.details = options?.details;
  }

  get exitCode(): number {
    return ERROR_KINDS[this.code].exitCode;
  }
}

/** Makes an ArcaError of whatever was thrown; an ArcaError stays as it is. */
export function toArcaError(error: unknown): ArcaError {
  if (error instanceof ArcaError) return error;
  return new ArcaError('unexpected', error instanceof Error ? error.message : String(error), { cause: error });
}

/** The errno name (`ENOENT`) that Node and the addon put on their errors, if there is one. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** The exit codes as lines for `--help`, in the order of their numbers; those that the program can end with. */
export function exitCodeLines(canHappen: (code: ErrorCode) => boolean = () => true): string[] {
  const rows: [number, string][] = [[0, 'success']];
  for (const [code, kind] of Object.entries(ERROR_KINDS)) {
    if (canHappen(code as ErrorCode)) rows.push([kind.exitCode, kind.meaning]);
  }
  rows.sort(([a], [b]) => a - b);
  return rows.map(([exitCode, meaning]) => `${String(exitCode).padStart(4)}  ${meaning}`);
}
