/**
 * The VLAN tag of a network: `external_ids:vlan_tag` of the logical switch of that name in OVN's northbound database.
 */
import { ArcaError } from '../errors.js';
import { CommandError, run } from '../exec.js';
import type { TlsFiles } from '../ovsdb/remote.js';
import { ovnSocket } from './places.js';

export const FIRST_TAG = 1;
/** 4095 is reserved by IEEE 802.1Q; OVS would take it. */
export const LAST_TAG = 4094;

const TAG_KEY = 'vlan_tag';

export interface TagLookUp {
  /** Name of the logical switch. */
  readonly network: string;
  /** `unix:PATH`, `tcp:...` or `ssl:...`, also several with commas; by default what ovn-nbctl takes. */
  readonly nb?: string | undefined;
  /** For `ssl:`. */
  readonly tls?: TlsFiles | undefined;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Asks ovn-nbctl. Rejects with an ArcaError that names the switch, or the database and its daemon. */
export async function lookUpTag(lookUp: TagLookUp): Promise<number> {
  const { network, nb, timeoutMs, signal } = lookUp;
  try {
    const { stdout } = await run('ovn-nbctl', tagArguments(lookUp), { timeoutMs, signal });
    return readTag(network, stdout, nb);
  } catch (error) {
    throw error instanceof CommandError ? lookUpFailure(error, lookUp) : error;
  }
}

/** Pure. The name is quoted: bare, `a,b` would be two values, and `[x]` a set (seen with ovn-nbctl 23.03). */
export function tagArguments({ network, nb, tls, timeoutMs }: TagLookUp): readonly string[] {
  return [
    ...(nb === undefined ? [] : [`--db=${nb}`]),
    ...(tls === undefined
      ? []
      : [`--private-key=${tls.privateKey}`, `--certificate=${tls.certificate}`, `--ca-cert=${tls.caCertificate}`]),
    // A backstop for the case that nobody is left to end it; ours is the deadline that counts.
    `--timeout=${Math.ceil(timeoutMs / 1000) + 1}`,
    '--format=json',
    '--columns=name,external_ids',
    'find',
    'Logical_Switch',
    `name=${JSON.stringify(network)}`,
  ];
}

/** Pure: the tag from ovn-nbctl's answer, `{"data": [[name, ["map", [[key, value], ...]]], ...], "headings": [...]}`. */
export function readTag(network: string, answer: string, nb?: string): number {
  const rows = readRows(answer);
  const nbctl = nb === undefined ? 'ovn-nbctl' : `ovn-nbctl --db=${nb}`;
  const [row] = rows;
  if (row === undefined) {
    throw new ArcaError(
      'network-unknown',
      `no logical switch is named ${JSON.stringify(network)}; make it: ` +
        `${nbctl} ls-add ${network} -- set Logical_Switch ${network} external_ids:${TAG_KEY}=100`,
    );
  }
  if (rows.length > 1) {
    throw new ArcaError(
      'network-ambiguous',
      `${rows.length} logical switches are named ${JSON.stringify(network)}, so its tag is not certain; ` +
        `remove or rename all but one (${nbctl} list Logical_Switch shows their UUIDs): ${nbctl} ls-del UUID`,
    );
  }
  const tag = row.get(TAG_KEY);
  const mend = `${nbctl} set Logical_Switch ${network} external_ids:${TAG_KEY}=N, with N from ${FIRST_TAG} to ${LAST_TAG}`;
  if (tag === undefined) {
    throw new ArcaError(
      'tag-missing',
      `logical switch ${JSON.stringify(network)} has no external_ids:${TAG_KEY}; set it: ${mend}`,
    );
  }
  const number = parseTag(tag);
  if (number === undefined) {
    throw new ArcaError(
      'tag-invalid',
      `logical switch ${JSON.stringify(network)} has external_ids:${TAG_KEY}=${JSON.stringify(tag)}, ` +
        `which is no VLAN tag; set it: ${mend}`,
    );
  }
  return number;
}

/** Pure: a VLAN tag in plain decimal, or nothing. */
export function parseTag(text: string): number | undefined {
  if (!/^[1-9]\d{0,3}$/.test(text)) return undefined;
  const tag = Number(text);
  return tag >= FIRST_TAG && tag <= LAST_TAG ? tag : undefined;
}

/** The external_ids of each switch in the answer. */
function readRows(answer: string): Map<string, string>[] {
  try {
    const { data } = JSON.parse(answer) as { data: [string, ['map', [string, string][]]][] };
    return data.map(([, externalIds]) => new Map(externalIds[1]));
  } catch (cause) {
    throw new ArcaError('command-failed', `ovn-nbctl gave an answer that can not be read: ${answer.slice(0, 200)}`, {
      cause,
    });
  }
}

/** Where ovn-nbctl looks, for messages (ovn-nbctl(8), `--db`). */
export function northboundText(nb: string | undefined, env: NodeJS.ProcessEnv): string {
  return nb ?? env['OVN_NB_DB'] ?? ovnSocket(env, 'ovnnb_db.sock');
}

function lookUpFailure(error: CommandError, { network, nb, timeoutMs }: TagLookUp): ArcaError {
  const where = northboundText(nb, process.env);
  const asked = `the tag of network ${JSON.stringify(network)}`;
  const cause = error;
  switch (error.failure) {
    case 'timed-out':
      return new ArcaError(
        'northbound-timeout',
        `the OVN northbound database (ovsdb-server) at ${where} did not give ${asked} in ${timeoutMs} ms. ` +
          'Is the daemon stopped or overloaded?',
        { cause },
      );
    case 'not-found':
      return new ArcaError('command-missing', `${error.message}; install it: apt-get install ovn-common`, { cause });
    case 'aborted':
      return new ArcaError('timed-out', `stopped while looking up ${asked}`, { cause });
    case 'exit-code':
    case 'signal':
    case 'output-limit':
      return new ArcaError(
        'northbound-unreachable',
        `the OVN northbound database (ovsdb-server) at ${where} could not be asked for ${asked}: ` +
          `${error.output.stderr.trim() || error.message}. Is it running (ovn-ctl status_ovnnb), and --nb right?`,
        { cause },
      );
  }
}
