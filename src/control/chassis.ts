/**
 * Chassis: how this host stands in OVN's southbound database. Where an ovn-controller runs on this OVS, it registers
 * itself by what the Open_vSwitch row tells it; otherwise we write the rows, as `ovn-sbctl chassis-add` does.
 *
 * What would bite later is refused now: two chassis can't have one address, and an ovn-controller that finds its own
 * taken never registers, and says so only in its log (docs/northbound.md#chassis).
 */
import { ArcaError } from '../errors.js';
import { type LocalController, readLocalController, writeControllerSettings } from '../ovn/local-controller.js';
import type { ChassisView, Southbound } from '../ovn/southbound.js';
import { ovsdbFailure } from '../ovs/failures.js';
import { deadlineOf, targetText } from '../ovsdb/json-rpc.js';
import type { Chassis, ChassisSpec, Made } from './model.js';
import { checkChassisSpec } from './specs.js';

export interface ChassisRegistry {
  list(): Promise<readonly Chassis[]>;
  register(spec: ChassisSpec): Promise<Made<Chassis>>;
  /** Only what has our mark. Rejects with `chassis-unknown`, or `chassis-conflict` for one that is not ours to remove. */
  remove(name: string): Promise<void>;
}

export interface ChassisOptions {
  readonly southbound: Southbound;
  /** Of OVS's database. */
  readonly ovsSocketPath: string;
  readonly env: NodeJS.ProcessEnv;
  /** Of each call. */
  readonly timeoutMs: number;
  /** Name of the chassis that this process speaks for; by default the first that it registers. */
  readonly ourName?: string | undefined;
}

/** What is to be done to have a chassis. */
export type ChassisPlan =
  | { readonly action: 'keep'; readonly chassis: ChassisView }
  /** No ovn-controller runs: the rows are ours to write. */
  | { readonly action: 'add' }
  /** An ovn-controller runs and is not told yet. */
  | { readonly action: 'tell-controller' }
  /** An ovn-controller runs and is told; its row has to come. */
  | { readonly action: 'wait' };

const ENCAP_TYPE = 'geneve';

export function createChassisRegistry(options: ChassisOptions): ChassisRegistry {
  const { southbound, ovsSocketPath, env, timeoutMs } = options;
  const remote = targetText(southbound.target);
  let ourName = options.ourName;

  const shown = ({ name, hostname, encaps }: ChassisView): Chassis => ({
    name,
    hostname,
    encaps,
    isOurs: name === ourName,
  });

  async function withOvs<T>(doing: string, use: () => Promise<T>): Promise<T> {
    try {
      return await use();
    } catch (error) {
      throw ovsdbFailure(error, { transport: 'unix', path: ovsSocketPath }, doing);
    }
  }

  async function register(spec: ChassisSpec): Promise<Made<ChassisView>> {
    const left = deadlineOf({ timeoutMs });
    for (;;) {
      const controller = await withOvs('looking for an ovn-controller', () =>
        readLocalController(ovsSocketPath, env, left()),
      );
      const plan = planChassis(spec, await southbound.listChassis(left()), controller, remote);
      switch (plan.action) {
        case 'keep':
          return { created: false, value: plan.chassis };
        case 'add': {
          const chassis = await southbound.addChassis(spec, left());
          if (chassis !== undefined) return { created: true, value: chassis };
          // Somebody was faster: what they made is looked at.
          break;
        }
        case 'tell-controller':
          await withOvs('telling ovn-controller what to register', () =>
            writeControllerSettings(ovsSocketPath, { systemId: spec.name, remote, encapIp: spec.encapIp }, left()),
          );
          return { created: true, value: await registered(spec.name, left()) };
        case 'wait':
          return { created: false, value: await registered(spec.name, left()) };
      }
    }
  }

  async function registered(name: string, call: { readonly timeoutMs: number }): Promise<ChassisView> {
    const chassis = await southbound.waitForChassis(name, call);
    if (chassis !== undefined) return chassis;
    throw new ArcaError(
      'southbound-timeout',
      `the ovn-controller of this host did not register chassis ${JSON.stringify(name)} in ${Math.round(call.timeoutMs)} ms; ` +
        'its log says why (ovn-controller.log)',
    );
  }

  return {
    async list() {
      return (await southbound.listChassis({ timeoutMs })).map(shown);
    },

    async register(spec) {
      const checked = checkChassisSpec(spec);
      const { created, value } = await register(checked);
      ourName ??= checked.name;
      return { created, value: shown(value) };
    },

    async remove(name) {
      const left = deadlineOf({ timeoutMs });
      const row = (await southbound.listChassis(left())).find((chassis) => chassis.name === name);
      if (row === undefined) throw new ArcaError('chassis-unknown', `there is no chassis ${JSON.stringify(name)}`);
      if (row.hasOurMark && (await southbound.removeChassis(row.uuid, left()))) return;
      throw new ArcaError(
        'chassis-conflict',
        `chassis ${JSON.stringify(name)} was registered by an ovn-controller or with ovn-sbctl, so it is not ours to remove; ` +
          `a living ovn-controller would register it again. End that (ovn-appctl -t ovn-controller exit), or: ovn-sbctl chassis-del ${name}`,
      );
    },
  };
}

/** Pure. Throws `chassis-conflict` with what would happen otherwise, and what to do. */
export function planChassis(
  spec: ChassisSpec,
  existing: readonly ChassisView[],
  { settings, isRunning }: LocalController,
  remote: string,
): ChassisPlan {
  const { name, encapIp } = spec;
  const sameIp = existing.find((row) => row.name !== name && row.encaps.some(({ ip }) => ip === encapIp));
  if (sameIp !== undefined) {
    throw conflict(
      `chassis ${quoted(sameIp.name)} has the address ${encapIp} already. Two chassis can not have one: the southbound ` +
        `database would refuse ${quoted(name)}, and an ovn-controller with that system-id would never register and say so ` +
        `only in its log. If ${quoted(sameIp.name)} is this host's former name, remove it (arca chassis remove ` +
        `${sameIp.name}, or ovn-sbctl chassis-del ${sameIp.name}); otherwise give this host's own address`,
      { chassis: sameIp.name, encapIp },
    );
  }
  const known = existing.find((row) => row.name === name);
  if (known !== undefined && !known.encaps.some(({ type, ip }) => type === ENCAP_TYPE && ip === encapIp)) {
    const has = known.encaps.map(({ type, ip }) => `${type} ${ip}`).join(', ') || 'no encapsulation';
    throw conflict(
      `chassis ${quoted(name)} exists with ${has}, not ${ENCAP_TYPE} ${encapIp}; ovn-sbctl --may-exist chassis-add would ` +
        `answer success and leave it so. If that is another host, choose another name; if it is this one, ` +
        (isRunning
          ? `its ovn-controller changes it: ovs-vsctl set Open_vSwitch . external_ids:ovn-encap-ip=${encapIp}`
          : `remove it first: arca chassis remove ${name}`),
      { differences: [{ property: 'encapIp', existing: known.encaps.map(({ ip }) => ip), wanted: encapIp }] },
    );
  }
  if (isRunning) return planWithController(spec, known, settings, remote);
  const { systemId } = settings;
  // One that is set up and does not run yet.
  if (
    settings.remote !== undefined &&
    systemId !== undefined &&
    systemId !== name &&
    settings.encapIps.includes(encapIp)
  ) {
    throw conflict(
      `this host's OVS is set up for an ovn-controller with the system-id ${quoted(systemId)} and the same address ` +
        `${encapIp}: with a chassis ${quoted(name)} it would never register once it is started. Register ${quoted(systemId)}, or give ` +
        `it the name: ovs-vsctl set Open_vSwitch . external_ids:system-id=${name}`,
      { systemId, encapIp },
    );
  }
  return known === undefined ? { action: 'add' } : { action: 'keep', chassis: known };
}

function planWithController(
  { name, encapIp }: ChassisSpec,
  known: ChassisView | undefined,
  settings: LocalController['settings'],
  remote: string,
): ChassisPlan {
  const { systemId, encapIps, encapTypes } = settings;
  if (systemId !== undefined && systemId !== name) {
    throw conflict(
      `the ovn-controller of this host registers itself as ${quoted(systemId)} (external_ids:system-id), and a second chassis ` +
        `${quoted(name)} for the same host would take tunnels that nobody ends. Register ${quoted(systemId)}`,
      { systemId },
    );
  }
  if (settings.remote !== undefined && !isAmong(remote, settings.remote)) {
    throw conflict(
      `the ovn-controller of this host speaks to the southbound database at ${settings.remote} (external_ids:ovn-remote), ` +
        `not to ${remote}: its chassis would never be seen here. Give --sb ${settings.remote}`,
      { differences: [{ property: 'ovn-remote', existing: settings.remote, wanted: remote }] },
    );
  }
  const hasOtherIp = encapIps.length > 0 && !encapIps.includes(encapIp);
  const hasOtherType = encapTypes.length > 0 && !encapTypes.includes(ENCAP_TYPE);
  if (hasOtherIp || hasOtherType) {
    const has = `${encapTypes.join(',') || 'no type'} ${encapIps.join(',') || 'no address'}`;
    throw conflict(
      `the ovn-controller of this host is told to use ${has}, not ${ENCAP_TYPE} ${encapIp} (external_ids:ovn-encap-type and ` +
        'ovn-encap-ip); change it there if that is meant, it moves the tunnels of everything that runs',
      { differences: [{ property: 'encapIp', existing: encapIps, wanted: encapIp }] },
    );
  }
  if (known !== undefined) return { action: 'keep', chassis: known };
  const isTold = [systemId, settings.remote, encapIps[0], encapTypes[0]].every((value) => value !== undefined);
  return { action: isTold ? 'wait' : 'tell-controller' };
}

/** Whether both name a server of the same cluster. Debian's /var/run is /run. */
function isAmong(remote: string, remotes: string): boolean {
  const plain = (text: string): string[] =>
    text.split(',').map((server) => server.trim().replace(/^unix:\/var\/run\//, 'unix:/run/'));
  const others = plain(remotes);
  return plain(remote).some((server) => others.includes(server));
}

function conflict(message: string, details: Readonly<Record<string, unknown>>): ArcaError {
  return new ArcaError('chassis-conflict', message, { details });
}

function quoted(name: string): string {
  return JSON.stringify(name);
}
