import { describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../src/errors.js';
import { listenFailure, tapFailure } from '../../src/relay/native-errors.js';

const nativeError = (code: string, operation: string): Error =>
  Object.assign(new Error(`${operation}: ${code}`), { code, operation });

describe('tapFailure', () => {
  it.each<[string, string, ErrorCode, RegExp]>([
    ['EPERM', 'ioctl(TUNSETIFF)', 'permission-denied', /CAP_NET_ADMIN/],
    ['EBUSY', 'ioctl(TUNSETIFF)', 'tap-name-in-use', /tap0.*--tap/],
    ['EEXIST', 'ioctl(TUNSETIFF)', 'tap-name-in-use', /tap0/],
    ['EINVAL', 'ioctl(TUNSETIFF)', 'tap-failed', /tap0.*EINVAL/],
    ['EPERM', 'netlink(mtu)', 'permission-denied', /CAP_NET_ADMIN/],
    ['ENOENT', 'open(/dev/net/tun)', 'tun-missing', /mknod \/dev\/net\/tun c 10 200/],
    ['ENODEV', 'open(/dev/net/tun)', 'tun-missing', /modprobe tun/],
    ['EACCES', 'open(/dev/net/tun)', 'permission-denied', /\/dev\/net\/tun/],
    ['EPERM', 'open(/dev/net/tun)', 'permission-denied', /\/dev\/net\/tun/],
    ['EMFILE', 'open(/dev/net/tun)', 'tap-failed', /EMFILE/],
    ['EINVAL', 'argument', 'usage', /EINVAL/],
  ])('%s from %s is %s', (code, operation, expected, message) => {
    const failure = tapFailure(nativeError(code, operation), 'tap0');
    expect(failure.code).toBe(expected);
    expect(failure.message).toMatch(message);
  });

  it('takes what is no native error', () => {
    expect(tapFailure(new Error('odd'), 'tap0')).toMatchObject({ code: 'tap-failed' });
    expect(tapFailure(undefined, 'tap0')).toMatchObject({ code: 'tap-failed' });
  });
});

describe('listenFailure', () => {
  const vsock = { transport: 'vsock', cid: 0xffffffff, port: 5555 } as const;
  const unix = { transport: 'unix', path: '/run/x.sock' } as const;

  it.each<[string, typeof vsock | typeof unix, ErrorCode, RegExp]>([
    ['EADDRINUSE', vsock, 'endpoint-in-use', /vsock:5555.*--port/],
    ['EADDRINUSE', unix, 'endpoint-in-use', /unix:\/run\/x\.sock/],
    ['EAFNOSUPPORT', vsock, 'vsock-missing', /modprobe/],
    ['ENODEV', vsock, 'vsock-missing', /modprobe/],
    ['EADDRNOTAVAIL', vsock, 'endpoint-failed', /CID/],
    ['EACCES', vsock, 'permission-denied', /CAP_NET_BIND_SERVICE/],
    ['EACCES', unix, 'permission-denied', /\/run\/x\.sock/],
    ['ENOENT', unix, 'endpoint-failed', /folder/],
    ['EIO', unix, 'endpoint-failed', /EIO/],
  ])('%s is told for what was asked', (code, endpoint, expected, message) => {
    const failure = listenFailure(nativeError(code, 'bind'), endpoint);
    expect(failure.code).toBe(expected);
    expect(failure.message).toMatch(message);
  });
});
