/** IPv4 addresses and subnets as numbers. Pure; only the one usual form of each is read, since texts are compared. */

export interface Subnet {
  /** The network address. */
  readonly first: number;
  /** The broadcast address. */
  readonly last: number;
  readonly prefixLength: number;
}

/** Dotted decimal without leading zeros, or nothing. */
export function readIpv4(text: string): number | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return undefined;
  let address = 0;
  for (const part of match.slice(1)) {
    const byte = Number(part);
    if (byte > 255 || String(byte) !== part) return undefined;
    address = address * 256 + byte;
  }
  return address;
}

export function ipv4Text(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}

/** `10.9.0.0/24`; host bits are not set in what comes back, and `hasHostBits` says whether they were. */
export function readCidr(text: string): (Subnet & { readonly hasHostBits: boolean }) | undefined {
  const [, address = '', length = ''] = /^([\d.]+)\/(\d{1,2})$/.exec(text) ?? [];
  const given = readIpv4(address);
  const prefixLength = Number(length);
  if (given === undefined || prefixLength > 32 || String(prefixLength) !== length) return undefined;
  const size = 2 ** (32 - prefixLength);
  const first = Math.floor(given / size) * size;
  return { first, last: first + size - 1, prefixLength, hasHostBits: first !== given };
}

export function cidrText({ first, prefixLength }: Subnet): string {
  return `${ipv4Text(first)}/${prefixLength}`;
}

export function contains({ first, last }: Subnet, address: number): boolean {
  return first <= address && address <= last;
}

/** An address that a host may have: in the subnet, and neither its network nor its broadcast address. */
export function isHost({ first, last }: Subnet, address: number): boolean {
  return first < address && address < last;
}

export function overlaps(one: Subnet, other: Subnet): boolean {
  return one.first <= other.last && other.first <= one.last;
}
