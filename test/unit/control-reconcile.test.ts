import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PlanStep } from '../../src/control/model.js';
import {
  type Actual,
  type ActualRelay,
  plan,
  SILENCE_GRACE_MS,
  TROUBLE_GRACE_MS,
} from '../../src/control/reconcile.js';
import type { RelayShape } from '../../src/control/relays/arguments.js';
import type { WantedAttachment } from '../../src/control/wanted.js';

function wanted(container: string, more: Partial<WantedAttachment> = {}): WantedAttachment {
  return {
    key: `${container}/net-a`,
    portUuid: `uuid-${container}`,
    container,
    network: 'net-a',
    endpoint: { transport: 'unix', path: `/run/${container}` },
    tap: `tap-${container}`,
    peerCids: [],
    mac: '02:00:00:00:00:01',
    addresses: ['10.9.0.2/24'],
    vlan: 100,
    gateway: null,
    dns: [],
    mtu: 1500,
    ...more,
  };
}

function shapeOf({ tap, vlan, network, endpoint, mac, addresses, gateway, dns, mtu, peerCids }: WantedAttachment) {
  return {
    ...{ tap, network, mtu, tag: vlan ?? 0, bridge: 'br-int', allowedCids: peerCids },
    endpoint: endpoint.transport === 'unix' ? `unix:${endpoint.path}` : `vsock:${endpoint.port}`,
    interfaceConfig: { mtu, mac: mac ?? '', addresses, gateways: gateway === null ? [] : [gateway], dns },
  } satisfies RelayShape;
}

function relay(attachment: WantedAttachment, more: Partial<ActualRelay> = {}): ActualRelay {
  return { tap: attachment.tap, pid: 7, shape: shapeOf(attachment), trouble: undefined, silentForMs: 0, ...more };
}

function actual(more: Partial<Actual> = {}): Actual {
  return { bridge: 'br-int', relays: [], ports: [], inHand: new Set(), ...more };
}

const web = wanted('web');
const inTrouble = (reason: string, forMs: number) => relay(web, { trouble: { reason, detail: 'why', forMs } });

describe('plan', () => {
  const start = { action: 'start-relay', container: 'web', network: 'net-a' };
  const restart = { action: 'restart-relay', container: 'web', network: 'net-a' };
  const stop = { action: 'stop-relay', tap: 'tap-web', pid: 7 };

  it.each<[what: string, wanted: WantedAttachment[], actual: Actual, steps: object[]]>([
    ['nothing wanted, nothing there', [], actual(), []],
    ['a relay that fits', [web], actual({ relays: [relay(web)] }), []],
    ['no relay', [web], actual(), [start]],
    ['no relay, and no address yet', [wanted('web', { mac: undefined })], actual(), []],
    ['no relay, and no tag', [wanted('web', { vlan: undefined })], actual(), []],
    ['a relay that nobody wants', [], actual({ relays: [relay(web)] }), [stop]],
    ['another tag', [wanted('web', { vlan: 101 })], actual({ relays: [relay(web)] }), [restart]],
    ['another MAC', [wanted('web', { mac: '02:00:00:00:00:02' })], actual({ relays: [relay(web)] }), [restart]],
    ['another address', [wanted('web', { addresses: [] })], actual({ relays: [relay(web)] }), [restart]],
    ['another gateway', [wanted('web', { gateway: '10.9.0.1' })], actual({ relays: [relay(web)] }), [restart]],
    ['other DNS servers', [wanted('web', { dns: ['10.9.0.1'] })], actual({ relays: [relay(web)] }), [restart]],
    ['another MTU', [wanted('web', { mtu: 1400 })], actual({ relays: [relay(web)] }), [restart]],
    ['other CIDs', [wanted('web', { peerCids: [7] })], actual({ relays: [relay(web)] }), [restart]],
    ['another bridge', [web], actual({ bridge: 'br-other', relays: [relay(web)] }), [restart]],
    [
      'a tag that was lost: what forwards goes on',
      [wanted('web', { vlan: undefined })],
      actual({ relays: [relay(web)] }),
      [],
    ],
    [
      'a relay of an earlier version, which tells less',
      [web],
      actual({
        relays: [
          relay(web, { shape: { tap: web.tap, tag: 100, bridge: 'br-int', endpoint: 'unix:/run/web', mtu: 1500 } }),
        ],
      }),
      [],
    ],
    ['a TAP that is down, just now', [web], actual({ relays: [inTrouble('tap-down', TROUBLE_GRACE_MS - 1)] }), []],
    ['a TAP that is down', [web], actual({ relays: [inTrouble('tap-down', TROUBLE_GRACE_MS)] }), [restart]],
    ['a port with an error', [web], actual({ relays: [inTrouble('port-error', TROUBLE_GRACE_MS)] }), [restart]],
    ['no vswitchd: a restart helps nobody', [web], actual({ relays: [inTrouble('ovs-vswitchd-gone', 1e9)] }), []],
    ['a black hole: a restart helps nobody', [web], actual({ relays: [inTrouble('bridge-black-hole', 1e9)] }), []],
    ['a port that is somebody else’s', [web], actual({ relays: [inTrouble('port-foreign', 1e9)] }), []],
    [
      'a relay that hangs, and nothing to start instead',
      [wanted('web', { mac: undefined })],
      actual({ relays: [relay(web, { silentForMs: SILENCE_GRACE_MS })] }),
      [],
    ],
    ['a relay that is slow to answer', [web], actual({ relays: [relay(web, { silentForMs: 5_000 })] }), []],
    ['a relay that hangs', [web], actual({ relays: [relay(web, { silentForMs: SILENCE_GRACE_MS })] }), [restart]],
    [
      'a port without device or relay',
      [],
      actual({ ports: [{ name: 'tap9', hasDevice: false }] }),
      [{ action: 'remove-port', port: 'tap9' }],
    ],
    ['a port with a device', [], actual({ ports: [{ name: 'tap9', hasDevice: true }] }), []],
    ['the port of a relay that starts', [web], actual({ ports: [{ name: web.tap, hasDevice: false }] }), [start]],
    [
      'the port of a relay that lives',
      [],
      actual({ relays: [relay(web)], ports: [{ name: web.tap, hasDevice: false }] }),
      [stop],
    ],
    ['in hand by its key', [web], actual({ inHand: new Set([web.key]) }), []],
    ['a stray in hand by its TAP', [], actual({ relays: [relay(web)], inHand: new Set([web.tap]) }), []],
    [
      'two that want one TAP: the first has it',
      [web, wanted('db', { tap: web.tap })],
      actual({ relays: [relay(web)] }),
      [],
    ],
  ])('%s', (_, wantedNow, actualNow, steps) => {
    expect(plan(wantedNow, actualNow)).toEqual(steps.map((step) => ({ ...step, reason: expect.stringMatching(/./) })));
  });

  it('does first what makes room', () => {
    const stray = wanted('stray');
    const other = wanted('other', { vlan: 101 });
    const steps = plan(
      [web, other],
      actual({
        relays: [relay(wanted('other')), relay(stray)],
        ports: [{ name: 'tap9', hasDevice: false }],
      }),
    );
    expect(steps.map(({ action }) => action)).toEqual(['stop-relay', 'remove-port', 'restart-relay', 'start-relay']);
  });
});

describe('plan, for whatever is wanted and there', () => {
  const names = ['a', 'b', 'c', 'd', 'e'];
  const wantedList = fc.uniqueArray(
    fc.record({
      name: fc.constantFrom(...names),
      vlan: fc.constantFrom(100, 101),
      hasMac: fc.boolean(),
    }),
    { selector: ({ name }) => name },
  );
  const there = fc.uniqueArray(
    fc.record({
      name: fc.constantFrom(...names),
      vlan: fc.constantFrom(100, 101),
      silentForMs: fc.constantFrom(0, SILENCE_GRACE_MS),
      troubleForMs: fc.constantFrom(undefined, 0, TROUBLE_GRACE_MS),
    }),
    { selector: ({ name }) => name },
  );
  const ports = fc.uniqueArray(
    fc.record({ name: fc.constantFrom(...names.map((name) => `tap-${name}`), 'tap-x'), hasDevice: fc.boolean() }),
    { selector: ({ name }) => name },
  );
  const scene = fc
    .record({ wantedList, there, ports, inHand: fc.subarray(names.map((name) => `${name}/net-a`)) })
    .map((drawn) => ({
      wanted: drawn.wantedList.map(({ name, vlan, hasMac }) =>
        wanted(name, { vlan, ...(!hasMac && { mac: undefined }) }),
      ),
      actual: actual({
        relays: drawn.there.map(({ name, vlan, silentForMs, troubleForMs }) =>
          relay(wanted(name, { vlan }), {
            silentForMs,
            ...(troubleForMs !== undefined && {
              trouble: { reason: 'tap-down', detail: 'why', forMs: troubleForMs },
            }),
          }),
        ),
        ports: drawn.ports,
        inHand: new Set(drawn.inHand),
      }),
    }));

  /** What the world is like when the steps were applied. */
  function applied(steps: readonly PlanStep[], wantedNow: readonly WantedAttachment[], before: Actual): Actual {
    let { relays, ports: portsNow } = before;
    for (const step of steps) {
      switch (step.action) {
        case 'stop-relay':
          relays = relays.filter(({ tap }) => tap !== step.tap);
          portsNow = portsNow.filter(({ name }) => name !== step.tap);
          break;
        case 'remove-port':
          portsNow = portsNow.filter(({ name }) => name !== step.port);
          break;
        case 'restart-relay':
        case 'start-relay': {
          const attachment = wantedNow.find(({ container }) => container === step.container) as WantedAttachment;
          relays = [...relays.filter(({ tap }) => tap !== attachment.tap), relay(attachment)];
          portsNow = [
            ...portsNow.filter(({ name }) => name !== attachment.tap),
            { name: attachment.tap, hasDevice: true },
          ];
        }
      }
    }
    return { ...before, relays, ports: portsNow };
  }

  it('reaches what is wanted, and then has nothing more to do', () => {
    fc.assert(
      fc.property(scene, ({ wanted: wantedNow, actual: before }) => {
        const free = { ...before, inHand: new Set<string>() };
        const after = applied(plan(wantedNow, free), wantedNow, free);
        expect(plan(wantedNow, after)).toEqual([]);
        const living = after.relays.map(({ tap }) => tap);
        for (const { tap, mac } of wantedNow) if (mac !== undefined) expect(living).toContain(tap);
        for (const { tap } of after.relays) expect(wantedNow.map((attachment) => attachment.tap)).toContain(tap);
      }),
    );
  });

  it('touches nothing that is in hand, and no port that has a device, a relay or somebody who wants it', () => {
    fc.assert(
      fc.property(scene, ({ wanted: wantedNow, actual: now }) => {
        const kept = new Set([
          ...now.ports.filter(({ hasDevice }) => hasDevice).map(({ name }) => name),
          ...now.relays.map(({ tap }) => tap),
          ...wantedNow.map(({ tap }) => tap),
        ]);
        const known = new Set(now.ports.map(({ name }) => name));
        for (const step of plan(wantedNow, now)) {
          if (step.action === 'remove-port') {
            expect(kept).not.toContain(step.port);
            expect(known).toContain(step.port);
          } else if (step.action !== 'stop-relay') {
            expect(now.inHand).not.toContain(`${step.container}/${step.network}`);
          }
        }
      }),
    );
  });

  it('does at most one thing to each relay', () => {
    fc.assert(
      fc.property(scene, ({ wanted: wantedNow, actual: now }) => {
        const targets = plan(wantedNow, now).map((step) => {
          if (step.action === 'remove-port') return step.port;
          return step.action === 'stop-relay' ? step.tap : `tap-${step.container}`;
        });
        expect(new Set(targets).size).toBe(targets.length);
      }),
    );
  });
});
