/** How a database is reached and kept: TCP, TLS, restarts of its server, and the servers of a RAFT cluster. */
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createClient } from '../../src/control/client.js';
import { lookUpTag } from '../../src/ovn/network-tag.js';
import { openSouthbound } from '../../src/ovn/southbound.js';
import { connectOvsdb, type Operation } from '../../src/ovsdb/client.js';
import { type OvsdbLink, openOvsdbLink } from '../../src/ovsdb/link.js';
import { type RpcTarget, readRemotes, type TlsFiles, targetText } from '../../src/ovsdb/remote.js';
import { startInBackground } from '../support/background.js';
import { CONTROL_PROGRAM } from '../support/control.js';
import {
  NORTHBOUND_SCHEMA,
  OVS_SCHEMA,
  type OvsdbServer,
  type OvsdbServers,
  ovsdbServers,
  SOUTHBOUND_SCHEMA,
} from '../support/ovsdb-servers.js';
import { eventually, scaled } from '../support/time.js';

const OVS = 'Open_vSwitch';
const NORTHBOUND = 'OVN_Northbound';
const SOUTHBOUND = 'OVN_Southbound';
const call = { timeoutMs: scaled(5000) };

let servers: OvsdbServers;
const links: OvsdbLink[] = [];

beforeAll(() => {
  servers = ovsdbServers();
});
afterEach(async () => {
  for (const link of links.splice(0)) await link.stop();
});
afterAll(() => servers.remove());

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

async function databasesAt(target: RpcTarget): Promise<readonly string[]> {
  const client = await connectOvsdb(target, call);
  try {
    return await client.listDatabases(call);
  } finally {
    client.close();
  }
}

describe('TCP', () => {
  it.each(['127.0.0.1', '[::1]'])('reaches a server at %s', async (address) => {
    const file = await servers.createDatabase(`tcp-${address.length}.db`, OVS_SCHEMA);
    const server = await servers.serve([file], `--remote=ptcp:0:${address}`);
    const text = `tcp:${address}:${await server.port()}`;
    expect(await databasesAt(readRemotes('--nb', text, undefined))).toContain(OVS);
    await server.stop();
    expect(await failureOf(databasesAt(readRemotes('--nb', text, undefined)))).toMatchObject({
      failure: 'unreachable',
    });
  });
});

describe('TLS', () => {
  let server: OvsdbServer;
  let ours: TlsFiles;
  let theirs: TlsFiles;
  let strangers: TlsFiles;

  /** A key with a certificate that the CA of that name has signed; the CA is made when it is not there. */
  async function issue(ca: string, name: string): Promise<TlsFiles> {
    const path = (file: string): string => join(servers.folder, file);
    const [privateKey, certificate] = [path(`${name}.key`), path(`${name}.pem`)];
    const [caKey, caCertificate] = [path(`${ca}.key`), path(`${ca}.pem`)];
    const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2'];
    if (name === ca)
      await servers.tool('openssl', ...request, '-keyout', caKey, '-out', caCertificate, '-subj', `/CN=${ca}`);
    else {
      const signed = ['-CA', caCertificate, '-CAkey', caKey, '-addext', 'basicConstraints=CA:FALSE'];
      await servers.tool(
        'openssl',
        ...request,
        ...signed,
        '-keyout',
        privateKey,
        '-out',
        certificate,
        '-subj',
        `/CN=${name}`,
      );
    }
    return { privateKey, certificate, caCertificate };
  }

  const optionsOf = ({ privateKey, certificate, caCertificate }: TlsFiles): string[] => [
    `--private-key=${privateKey}`,
    `--certificate=${certificate}`,
    `--ca-cert=${caCertificate}`,
  ];
  const at = async (files: TlsFiles): Promise<RpcTarget> =>
    readRemotes('--nb', `ssl:127.0.0.1:${await server.port()}`, files);

  beforeAll(async () => {
    await issue('ca', 'ca');
    await issue('other-ca', 'other-ca');
    theirs = await issue('ca', 'server');
    ours = await issue('ca', 'client');
    strangers = await issue('other-ca', 'stranger');
    const file = await servers.createDatabase('tls.db', OVS_SCHEMA);
    server = await servers.serve([file], '--remote=pssl:0:127.0.0.1', ...optionsOf(theirs));
  });

  it('reaches a server whose certificate the CA has signed, whatever its name', async () => {
    expect(await databasesAt(await at(ours))).toContain(OVS);
    const port = await server.port();
    const listed = await servers.tool('ovsdb-client', ...optionsOf(ours), 'list-dbs', `ssl:127.0.0.1:${port}`);
    expect(listed).toContain(OVS);
  });

  it('refuses a server whose certificate another CA has signed', async () => {
    const trusting = { ...ours, caCertificate: strangers.caCertificate };
    expect(await failureOf(databasesAt(await at(trusting)))).toMatchObject({
      failure: 'unreachable',
      message: expect.stringMatching(/certificate|self.signed|issuer/i),
    });
  });

  it('is refused with a certificate that another CA has signed', async () => {
    const stranger = { ...strangers, caCertificate: ours.caCertificate };
    // TLS 1.3: the client is done before the server has looked.
    expect(await failureOf(databasesAt(await at(stranger)))).toMatchObject({
      failure: expect.stringMatching(/closed|unreachable/),
    });
  });

  it('names the file that it can not read, or that is no key', async () => {
    const missing = { ...ours, privateKey: join(servers.folder, 'nosuch.key') };
    expect(await failureOf(databasesAt(await at(missing)))).toMatchObject({
      message: expect.stringMatching(/private key.*nosuch\.key/),
    });
    expect(await failureOf(databasesAt(await at({ ...ours, privateKey: ours.caCertificate })))).toMatchObject({
      failure: 'unreachable',
    });
  });

  it('carries arca-control to a cluster, whose leader may go, and a relay to its tag', async () => {
    const remote = ['--remote=pssl:0:127.0.0.1', ...optionsOf(theirs)];
    const cluster = await servers.startCluster(NORTHBOUND, NORTHBOUND_SCHEMA, ...remote);
    const ports = await Promise.all(cluster.map((member) => member.port()));
    const nb = ports.map((port) => `ssl:127.0.0.1:${port}`).join(',');
    await servers.tool('ovn-nbctl', `--db=${nb}`, ...optionsOf(ours), 'init');
    const path = join(servers.folder, 'control.sock');
    const control = startInBackground('node', [
      ...[CONTROL_PROGRAM, '--run-dir', join(servers.folder, 'control'), '--listen', `unix:${path}`],
      ...['--nb', nb, '--sb', nb, ...optionsOf(ours), '--ovs', `unix:${join(servers.folder, 'no-ovs.sock')}`],
    ]);
    try {
      const client = createClient({ path, timeoutMs: scaled(10_000) });
      const made = async (name: string): Promise<number | null> =>
        eventually(
          () => `network ${name}: ${control.stderr.all.slice(-5).join('\n')}`,
          () =>
            client.createNetwork({ name }).then(
              ({ value }) => value.vlan,
              () => undefined,
            ),
          20_000,
        );
      const vlan = await made('net-a');
      expect(await lookUpTag({ network: 'net-a', nb, tls: ours, timeoutMs: scaled(10_000) })).toBe(vlan);
      for (const member of cluster) {
        if (/^Role: leader$/m.test(await member.control('cluster/status', NORTHBOUND))) member.kill('SIGKILL');
      }
      await made('net-b');
      expect((await client.listNetworks()).map(({ name }) => name).sort()).toEqual(['net-a', 'net-b']);
    } finally {
      await control.destroy();
    }
  }, 90_000);

  it('ends at its deadline with a server that does not speak TLS', async () => {
    const file = await servers.createDatabase('plain.db', OVS_SCHEMA);
    const plain = await servers.serve([file], '--remote=ptcp:0:127.0.0.1');
    const target = readRemotes('--nb', `ssl:127.0.0.1:${await plain.port()}`, ours);
    expect(await failureOf(connectOvsdb(target, { timeoutMs: 500 }))).toMatchObject({
      failure: expect.stringMatching(/unreachable|timed-out/),
    });
    await plain.stop();
  });
});

describe('a link', () => {
  function open(target: RpcTarget, database = NORTHBOUND): OvsdbLink {
    const link = openOvsdbLink({
      target,
      database,
      monitor: { Logical_Switch: { columns: { name: 'plain' } } },
      onChange: () => {},
    });
    links.push(link);
    return link;
  }
  const namesIn = (link: OvsdbLink): unknown[] | undefined => {
    const rows = link.session()?.tables.get('Logical_Switch');
    return rows && [...rows.values()].map(({ name }) => name).sort();
  };
  const seen = (link: OvsdbLink, names: readonly string[]): Promise<true> =>
    eventually(
      () => `${names} in the tables; there is ${namesIn(link)}, ${link.failure()?.message}`,
      () => (JSON.stringify(namesIn(link)) === JSON.stringify(names) ? true : undefined),
      20_000,
    );
  const add = (name: string): Operation[] => [{ op: 'insert', table: 'Logical_Switch', row: { name } }];

  it('sees what changed while its server was down', async () => {
    const file = await servers.createDatabase('restart.db', NORTHBOUND_SCHEMA);
    const server = await servers.serve([file]);
    const link = open(server.target);
    const { client } = await link.waitForSession(call);
    await client.transact(NORTHBOUND, add('before'), call);
    await seen(link, ['before']);
    server.kill('SIGKILL');
    expect(await client.closed).toMatchObject({ failure: 'closed' });
    await server.stop();
    await servers.tool('ovsdb-tool', 'transact', file, JSON.stringify([NORTHBOUND, ...add('meanwhile')]));
    await server.start();
    await seen(link, ['before', 'meanwhile']);
    await server.stop();
  });

  it('is not needed for single calls to a cluster: chassis are written to whoever leads', async () => {
    const cluster = await servers.startCluster(SOUTHBOUND, SOUTHBOUND_SCHEMA);
    // Made by northd otherwise.
    const [first] = cluster;
    await servers.tool('ovn-sbctl', `--db=${first?.remote}`, '--no-leader-only', 'init');
    const southbound = openSouthbound({ transport: 'cluster', servers: cluster.map(({ target }) => target) });
    await southbound.addChassis({ name: 'host-1', encapIp: '192.0.2.1' }, call);
    for (const member of cluster) {
      if (/^Role: leader$/m.test(await member.control('cluster/status', SOUTHBOUND))) member.kill('SIGKILL');
    }
    const names = await eventually(
      'the next leader',
      () => southbound.listChassis(call).catch(() => undefined),
      20_000,
    );
    expect(names.map(({ name }) => name)).toEqual(['host-1']);
  }, 60_000);

  it('finds the new leader of a cluster, and all rows, when the leader is killed or steps down', async () => {
    const cluster = await servers.startCluster(NORTHBOUND, NORTHBOUND_SCHEMA);
    const link = open({ transport: 'cluster', servers: cluster.map(({ target }) => target) });
    const led = async (): Promise<OvsdbServer> => {
      const { client } = await link.waitForSession({ timeoutMs: scaled(20_000) });
      const leader = cluster.find(({ target }) => targetText(target) === targetText(client.target));
      if (leader === undefined) throw new Error(`${targetText(client.target)} is not of the cluster`);
      expect(await leader.control('cluster/status', NORTHBOUND)).toMatch(/^Role: leader$/m);
      return leader;
    };
    const write = async (name: string): Promise<unknown> => {
      const { client } = await link.waitForSession({ timeoutMs: scaled(20_000) });
      return client.transact(NORTHBOUND, add(name), call);
    };

    const first = await led();
    await write('a');
    await seen(link, ['a']);
    const killed = link.session()?.client.closed;
    first.kill('SIGKILL');
    expect(await killed).toMatchObject({ failure: 'closed' });
    await first.stop();
    const second = await led();
    expect(second).not.toBe(first);
    await write('b');
    await seen(link, ['a', 'b']);

    await first.start();
    const steppedDown = link.session()?.client.closed;
    await second.control('cluster/failure-test', 'transfer-leadership');
    expect(await steppedDown).toMatchObject({ message: expect.stringMatching(/leader|cut off/) });
    // The same one, if it won the election that it had called.
    await led();
    await write('c');
    await seen(link, ['a', 'b', 'c']);
  }, 90_000);
});
