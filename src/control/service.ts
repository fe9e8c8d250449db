/**
 * The control service: what joins the northbound database, the relays and OVS into the calls of `ControlService`.
 * It holds no state that a restart would miss: what is wanted stands in the northbound database, what is there is
 * found by the relays' status sockets and OVS's rows.
 */
import { ArcaError } from '../errors.js';
import type { Logger } from '../log.js';
import type { RpcTarget } from '../ovsdb/json-rpc.js';
import type { ChassisSpec, ControlService } from './model.js';

export interface ControlOptions {
  /** An absolute path; made if it is missing. Holds our lock, and the relays' status sockets and logs. */
  readonly runDir: string;
  /** Of OVS's database; by default the one that ovs-vsctl uses. */
  readonly ovsSocketPath: string | undefined;
  readonly northbound: RpcTarget;
  readonly southbound: RpcTarget;
  /** Registered at the start. Its name also says which attachments are this process's; OVS's system-id by default. */
  readonly chassis?: ChassisSpec | undefined;
  /** Where vsock ports for attachments are taken from; both included. */
  readonly vsockPorts: { readonly first: number; readonly last: number };
  /** OVS bridge that the TAPs are attached to. */
  readonly bridge: string;
  readonly log: Logger;
  readonly version: string;
  /** Command and first arguments that run arca-relay: `[process.execPath, '.../dist/cli/arca-relay.js']`. */
  readonly relayProgram: readonly [command: string, ...args: string[]];
  /** Of this process, and of the relays that it starts. */
  readonly env: NodeJS.ProcessEnv;
  /** Ends the start. */
  readonly signal?: AbortSignal | undefined;
}

export interface Control extends ControlService {
  /** Ends everything but the relays: they live on, and the next control process adopts them. Safe to call twice. */
  stop(): Promise<void>;
}

/**
 * Takes the run directory's lock, adopts the relays that live and reconciles. Rejects with an ArcaError, for example
 * `endpoint-in-use` when another control process has the run directory; databases that can not be reached yet are no
 * error: calls that need them fail until they are there.
 */
export function createControl(_options: ControlOptions): Promise<Control> {
  return Promise.reject(new ArcaError('not-supported', 'the control service is not there yet'));
}
