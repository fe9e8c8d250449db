/** Addresses of devices with the length of their prefix, in the one form in which they are written and compared. Pure. */
import { isIP, SocketAddress } from 'node:net';

export interface Address {
  /** Canonical, with host bits: `10.0.0.1/24`, `fd00::1/64` (RFC 5952). */
  readonly text: string;
  readonly family: 4 | 6;
  readonly bits: bigint;
  readonly prefixLength: number;
}

/** `10.0.0.1/24` or `fd00::1/64`; what is wrong with it otherwise. */
export function readAddress(text: string): Address | { readonly problem: string } {
  const [, host = '', length] = /^([^/]*)(?:\/(.*))?$/s.exec(text) ?? [];
  const family = host.includes('%') ? 0 : isIP(host);
  if (family !== 4 && family !== 6) return { problem: 'is no IPv4 or IPv6 address' };
  if (length === undefined) return { problem: `has no length of a prefix; write ${text}/${family === 4 ? 24 : 64}` };
  const longest = family === 4 ? 32 : 128;
  const prefixLength = /^(0|[1-9]\d{0,2})$/.test(length) ? Number(length) : Number.NaN;
  if (!(prefixLength <= longest)) return { problem: `has the length ${length}; it is 0 to ${longest}` };
  const canonical = new SocketAddress({ address: host, family: family === 4 ? 'ipv4' : 'ipv6' }).address;
  return { text: `${canonical}/${prefixLength}`, family, bits: bitsOf(canonical, family), prefixLength };
}

/** Why no host may have it; nothing: it may. */
export function hostProblem({ family, bits, prefixLength, text }: Address): string | undefined {
  const length = family === 4 ? 32 : 128;
  const hostLength = BigInt(length - prefixLength);
  const hostBits = bits & ((1n << hostLength) - 1n);
  const [first, second] = [Number(bits >> BigInt(length - 8)), Number((bits >> BigInt(length - 16)) & 0xffn)];
  if (bits === 0n) return 'is the unspecified address';
  if (family === 4) {
    if (first === 127) return 'is a loopback address';
    if (first === 0 || first >= 224) return 'is no address that a host may have (RFC 6890)';
    if (hostLength < 2n) return undefined;
    if (hostBits === 0n) return `is the address of the network itself; a host of it is ${nextOf(bits)}/${prefixLength}`;
    if (hostBits === (1n << hostLength) - 1n) return 'is the broadcast address of its network';
    return undefined;
  }
  if (bits === 1n) return 'is the loopback address';
  if (first === 0xff) return 'is a multicast address';
  // The kernel makes link-local addresses by itself, and what it made can't be told from what we set.
  if (first === 0xfe && (second & 0xc0) === 0x80) return 'is a link-local address, which the kernel draws by itself';
  // The subnet-router anycast address, RFC 4291 2.6.1; the kernel takes it, and neighbours answer for it.
  if (hostLength > 1n && hostBits === 0n) return `is the anycast address of the routers of ${text}`;
  return undefined;
}

/** The subnets have an address in common. */
export function overlap(one: Address, other: Address): boolean {
  if (one.family !== other.family) return false;
  const length = one.family === 4 ? 32 : 128;
  const common = BigInt(length - Math.min(one.prefixLength, other.prefixLength));
  return one.bits >> common === other.bits >> common;
}

function nextOf(bits: bigint): string {
  return [24n, 16n, 8n, 0n].map((shift) => ((bits + 1n) >> shift) & 0xffn).join('.');
}

/** Of a canonical text. */
function bitsOf(text: string, family: 4 | 6): bigint {
  if (family === 4) return text.split('.').reduce((bits, byte) => bits * 256n + BigInt(byte), 0n);
  const groups = text.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...bytes: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = bytes.slice(0, 4).map(Number);
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
  });
  const [head = '', tail] = groups.split('::');
  const parts = (half: string): string[] => (half === '' ? [] : half.split(':'));
  const [before, after] = [parts(head), parts(tail ?? '')];
  const zeros = tail === undefined ? 0 : 8 - before.length - after.length;
  const all = [...before, ...Array.from({ length: zeros }, () => '0'), ...after];
  return all.reduce((bits, group) => bits * 65536n + BigInt(`0x${group}`), 0n);
}
