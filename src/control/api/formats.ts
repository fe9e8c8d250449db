/** The formats of the schemas that JSON Schema has no word for. Pure; each says in words what it wants. */
import { isIP, isIPv4 } from 'node:net';

interface Format {
  readonly wants: string;
  readonly matches: (text: string) => boolean;
}

const LONGEST_NAME_BYTES = 255;
/** sockaddr_un.sun_path, less its final zero; unix(7). */
const LONGEST_SOCKET_PATH_BYTES = 107;

export const FORMATS: Readonly<Record<string, Format>> = {
  // OVN takes any text. Control characters would be passed on to logs and terminals.
  'arca-name': {
    wants: `a name of at most ${LONGEST_NAME_BYTES} bytes without control characters`,
    matches: (text) => Buffer.byteLength(text) <= LONGEST_NAME_BYTES && !/[\p{Cc}\p{Cs}]/u.test(text),
  },
  'arca-subnet': { wants: 'an IPv4 subnet with no host bits set, like 10.9.0.0/24', matches: isSubnet },
  'arca-ip': { wants: 'an IP address', matches: (text) => isIP(text) !== 0 && !text.includes('%') },
  'arca-mac': {
    wants: 'a MAC of one interface, like 02:00:00:00:00:01',
    matches: (text) => /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i.test(text) && !/^00(:00){5}$/.test(text),
  },
  'arca-socket-path': {
    wants: `an absolute path of at most ${LONGEST_SOCKET_PATH_BYTES} bytes without control characters`,
    matches: (text) =>
      text.startsWith('/') && Buffer.byteLength(text) <= LONGEST_SOCKET_PATH_BYTES && !/[\p{Cc}\p{Cs}]/u.test(text),
  },
  ipv4: { wants: 'an IPv4 address', matches: isIPv4 },
};

function isSubnet(text: string): boolean {
  const match = /^([\d.]+)\/(\d{1,2})$/.exec(text);
  const address = match?.[1] ?? '';
  const length = Number(match?.[2] ?? Number.NaN);
  if (!isIPv4(address) || !(length <= 32)) return false;
  const bits = address.split('.').reduce((value, byte) => value * 256 + Number(byte), 0);
  return bits % 2 ** (32 - length) === 0;
}
