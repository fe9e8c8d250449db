/** What else does the same job on one machine, from Debian. None is needed: each says what would install it. */
import { join } from 'node:path';
import { canRun } from '../context.js';
import { INTERFACE, inNetns, ip } from '../lab.js';
import { type Contender, startBoth } from './contender.js';

async function needs(program: string, debianPackage: string): Promise<string | undefined> {
  return (await canRun(program)) ? undefined : `${program} is not installed: apt-get install ${debianPackage}`;
}

export const vde: Contender = {
  name: 'vde',
  description: 'VDE 2: vde_switch and two vde_plug2tap',
  // With MTU 9000 full-sized frames do not come through (2.3.2, tried): a TCP flow stops after its first segments.
  mostMtu: 1500,
  missing: async () => (await needs('vde_switch', 'vde2')) ?? (await needs('vde_plug2tap', 'vde2')),
  async start(context, pair) {
    const directory = join(pair.directory, 'switch');
    // Its console is its standard input, which stays open: at its end the switch would end.
    const hub = context.processes.start(['vde_switch', '--sock', directory]);
    await hub.waitForLine(/vde\$|^$/, 300).catch(() => {});
    const plug = ['vde_plug2tap', '-s', directory, INTERFACE];
    return [hub, ...startBoth(context, pair, plug, plug)];
  },
};

export const openvpn: Contender = {
  name: 'openvpn',
  description: 'OpenVPN in TAP mode over TCP, cipher and authentication none',
  missing: () => needs('openvpn', 'openvpn'),
  async start(context, pair, mtu) {
    // Its own stream is TCP, so it needs a path beside the one that is measured.
    await ip(['link', 'add', 'outer0', 'netns', pair.a, 'type', 'veth', 'peer', 'name', 'outer0', 'netns', pair.b]);
    for (const [netns, address] of [
      [pair.a, '10.78.0.1/30'],
      [pair.b, '10.78.0.2/30'],
    ] as const) {
      await ip(['-n', netns, 'addr', 'add', address, 'dev', 'outer0']);
      await ip(['-n', netns, 'link', 'set', 'outer0', 'mtu', '9000', 'up']);
    }
    const common = [
      ...['--dev', INTERFACE, '--dev-type', 'tap', '--cipher', 'none', '--auth', 'none', '--disable-dco'],
      ...['--tun-mtu', String(mtu), '--mssfix', '0', '--socket-flags', 'TCP_NODELAY', '--verb', '1'],
      ...['--sndbuf', '1048576', '--rcvbuf', '1048576', '--data-ciphers', 'none'],
    ];
    const server = context.processes.start(
      inNetns(pair.a, ['openvpn', '--proto', 'tcp-server', '--local', '10.78.0.1', ...common]),
    );
    const client = context.processes.start(
      inNetns(pair.b, [
        ...['openvpn', '--proto', 'tcp-client', '--remote', '10.78.0.1', '--connect-retry', '1', ...common],
      ]),
    );
    return [server, client];
  },
};

export const socat: Contender = {
  name: 'socat',
  description: 'socat between a TAP and a Unix socket; SOCK_SEQPACKET, since it keeps no frames apart on a stream',
  missing: () => needs('socat', 'socat'),
  async start(context, pair) {
    const path = join(pair.directory, 'stream');
    const tap = `TUN,tun-type=tap,tun-name=${INTERFACE},iff-no-pi,iff-up`;
    // 5 is SOCK_SEQPACKET. A read must take a whole frame.
    const listener = context.processes.start(inNetns(pair.a, ['socat', '-b65536', tap, `UNIX-LISTEN:${path},type=5`]));
    const dialler = context.processes.start(
      inNetns(pair.b, ['socat', '-b65536', tap, `UNIX-CONNECT:${path},type=5,retry=100,interval=0.02`]),
    );
    return [listener, dialler];
  },
};
