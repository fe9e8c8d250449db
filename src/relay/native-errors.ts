/** What an error of the addon means to the user. */
import { ArcaError, errnoOf } from '../errors.js';
import type { Endpoint, NativeError } from '../native.js';
import { endpointText } from './options.js';

/** A failure of `createRelay`. */
export function tapFailure(error: unknown, tap: string): ArcaError {
  const { code, operation } = readNativeError(error);
  const cause = error;
  const said = error instanceof Error ? error.message : String(error);
  if (operation === 'argument') return new ArcaError('usage', said, { cause });
  if (operation === 'open(/dev/net/tun)') {
    switch (code) {
      case 'ENOENT':
        return new ArcaError(
          'tun-missing',
          '/dev/net/tun is missing; make it: mkdir -p /dev/net && mknod /dev/net/tun c 10 200',
          { cause },
        );
      case 'ENODEV':
      case 'ENXIO':
        return new ArcaError('tun-missing', 'the kernel has no driver behind /dev/net/tun; load it: modprobe tun', {
          cause,
        });
      case 'EACCES':
      case 'EPERM':
        return new ArcaError('permission-denied', `no permission to open /dev/net/tun (${said}); run as root`, {
          cause,
        });
    }
  }
  if (operation === 'ioctl(TUNSETOFFLOAD)' && code === 'EINVAL') {
    return new ArcaError('tap-failed', `--offload uso: this kernel has no UDP segmentation for TAPs (Linux 6.2 has)`, {
      cause,
    });
  }
  switch (code) {
    case 'EPERM':
    case 'EACCES':
      return new ArcaError(
        'permission-denied',
        `making the TAP device ${tap} needs the capability CAP_NET_ADMIN (${said}); run as root, or give it: ` +
          'setpriv, capsh, or AmbientCapabilities=CAP_NET_ADMIN in the systemd unit',
        { cause },
      );
    case 'EBUSY':
    case 'EEXIST':
      return new ArcaError(
        'tap-name-in-use',
        `a network device named ${tap} exists (${said}); another relay may be running with that name. ` +
          `Take another --tap, or look: ip -d link show ${tap}`,
        { cause },
      );
    default:
      return new ArcaError('tap-failed', `the TAP device ${tap} could not be made: ${said}`, { cause });
  }
}

/** A failure of `listen`. */
export function listenFailure(error: unknown, endpoint: Endpoint): ArcaError {
  const { code } = readNativeError(error);
  const cause = error;
  const where = endpointText(endpoint);
  const said = error instanceof Error ? error.message : String(error);
  switch (code) {
    case 'EADDRINUSE':
      return new ArcaError(
        'endpoint-in-use',
        endpoint.transport === 'vsock'
          ? `somebody listens on ${where} already; take another --port, or look: ss --vsock -lp`
          : `somebody listens on ${where} already; take another path, or look: ss -xlp src ${endpoint.path}`,
        { cause },
      );
    case 'EAFNOSUPPORT':
    case 'ENODEV':
    case 'EPROTONOSUPPORT':
      return new ArcaError(
        'vsock-missing',
        `the kernel can not listen on ${where} (${said}); load a vsock transport: ` +
          'modprobe vhost_vsock on the host of VMs, modprobe vmw_vsock_virtio_transport in a VM, ' +
          'modprobe vsock_loopback for this machine alone',
        { cause },
      );
    case 'EADDRNOTAVAIL':
      return new ArcaError(
        'endpoint-failed',
        `${where}: no vsock device of this machine has that CID (${said}); leave the CID out to listen on all`,
        { cause },
      );
    case 'EACCES':
    case 'EPERM':
      return new ArcaError(
        'permission-denied',
        endpoint.transport === 'vsock'
          ? `no permission to listen on ${where} (${said}): vsock ports under 1024 need the capability CAP_NET_BIND_SERVICE`
          : `no permission to make the socket ${endpoint.path} (${said}); look at its folder: ls -ld "$(dirname ${endpoint.path})"`,
        { cause },
      );
    case 'ENOENT':
    case 'ENOTDIR':
      return new ArcaError('endpoint-failed', `the folder of the socket ${where} does not exist (${said})`, { cause });
    default:
      return new ArcaError('endpoint-failed', `can not listen on ${where}: ${said}`, { cause });
  }
}

function readNativeError(error: unknown): { readonly code: string; readonly operation: string } {
  return { code: errnoOf(error) ?? '', operation: (error as Partial<NativeError>)?.operation ?? '' };
}
