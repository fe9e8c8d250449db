import { describe, expect, it } from 'vitest';
import { readRemotes, readTlsFiles, serversOf, targetText } from '../../src/ovsdb/remote.js';

const files = { privateKey: '/k', certificate: '/c', caCertificate: '/ca' };
const read = (text: string) => readRemotes('--nb', text, files);

describe('readRemotes', () => {
  it('reads each kind of server', () => {
    expect(read('unix:/run/db.sock')).toEqual({ transport: 'unix', path: '/run/db.sock' });
    expect(read('tcp:db.example:6641')).toEqual({ transport: 'tcp', host: 'db.example', port: 6641 });
    expect(read('tcp:[fd00::1]:6641')).toEqual({ transport: 'tcp', host: 'fd00::1', port: 6641 });
    expect(read('ssl:192.0.2.1:6641')).toEqual({ transport: 'ssl', host: '192.0.2.1', port: 6641, files });
  });

  it('reads the servers of a cluster, in their order', () => {
    const cluster = read('tcp:a:6641,tcp:b:6641, ssl:[::1]:6641');
    expect(cluster.transport).toBe('cluster');
    expect(serversOf(cluster).map(targetText)).toEqual(['tcp:a:6641', 'tcp:b:6641', 'ssl:[::1]:6641']);
  });

  it.each(['unix:/run/db.sock', 'tcp:[fd00::1]:6641', 'ssl:h:1', 'tcp:a:1,unix:/b,ssl:[::1]:3'])(
    'writes %s as it was read',
    (text) => expect(targetText(read(text))).toBe(text),
  );

  it.each([
    '',
    'unix:',
    'db.sock',
    'tcp:',
    'tcp:a',
    'tcp:a:0',
    'tcp:a:65536',
    'tcp:fd00::1:6641',
    'udp:a:1',
    'tcp:a:1,',
  ])('names the option for %j', (text) => {
    expect(() => read(text)).toThrow(
      expect.objectContaining({ code: 'usage', message: expect.stringContaining('--nb') }),
    );
  });

  it('wants keys for TLS, all of them or none', () => {
    expect(() => readRemotes('--nb', 'ssl:a:1', undefined)).toThrow(/--private-key, --certificate and --ca-cert/);
    expect(readTlsFiles({})).toBeUndefined();
    expect(readTlsFiles({ privateKey: '/k', certificate: '/c', caCert: '/ca' })).toEqual(files);
    expect(() => readTlsFiles({ privateKey: '/k', caCert: '/ca' })).toThrow(/all of/);
  });
});
