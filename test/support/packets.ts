/** What a switch port without offloads must never be given: frames that are too large, or whose checksums are not whole. Pure. */

const ETHERNET_HEADER_SIZE = 14;
const VLAN_TAG_SIZE = 4;
const TAG_TYPES: readonly number[] = [0x8100, 0x88a8];
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const IPV4_HEADER_SIZE = 20;
const IPV6_HEADER_SIZE = 40;
const TCP_HEADER_SIZE = 20;
const UDP_HEADER_SIZE = 8;
const TCP = 6;
const UDP = 17;
const ICMPV6 = 58;

/** Where each has its checksum. */
const CHECKSUM_AT: ReadonlyMap<number, number> = new Map([
  [TCP, 16],
  [UDP, 6],
  [ICMPV6, 2],
]);

interface Segment {
  readonly ipVersion: 4 | 6;
  readonly protocol: number;
  /** TCP's or UDP's header and content. */
  readonly bytes: Uint8Array;
  readonly pseudoHeader: Uint8Array;
}

/** Undefined: the frame is as every receiver takes it. `mtu` bounds it, without Ethernet header and VLAN tag. */
export function faultOf(frame: Uint8Array, mtu: number): string | undefined {
  const packetAt = findPacket(frame);
  if (frame.length - packetAt > mtu) return `${frame.length} bytes`;
  if (etherType(frame) === IPV4) {
    const headerSize = ((frame[packetAt] ?? 0) & 15) * 4;
    if (foldedSum([frame.subarray(packetAt, packetAt + headerSize)]) !== 0xffff) return 'IPv4 header checksum';
  }
  const segment = findSegment(frame);
  const checksumAt = segment && CHECKSUM_AT.get(segment.protocol);
  if (segment === undefined || checksumAt === undefined) return undefined;
  const { ipVersion, protocol, bytes, pseudoHeader } = segment;
  const isLeftOut = protocol === UDP && ipVersion === 4 && be16(bytes, checksumAt) === 0;
  if (isLeftOut || foldedSum([pseudoHeader, bytes]) === 0xffff) return undefined;
  return `checksum of protocol ${protocol} over IPv${ipVersion}`;
}

/** What is behind the IP header; undefined for fragments, and for what is no IP. */
export function findSegment(frame: Uint8Array): Segment | undefined {
  const packet = frame.subarray(findPacket(frame));
  switch (etherType(frame)) {
    case IPV4: {
      const headerSize = ((packet[0] ?? 0) & 15) * 4;
      const isFragment = (be16(packet, 6) & 0x3fff) !== 0;
      if (isFragment) return undefined;
      const protocol = packet[9] ?? 0;
      const bytes = packet.subarray(headerSize, be16(packet, 2));
      const pseudoHeader = Buffer.concat([packet.subarray(12, 20), Uint8Array.of(0, protocol, ...size16(bytes))]);
      return { ipVersion: 4, protocol, bytes, pseudoHeader };
    }
    case IPV6: {
      const protocol = packet[6] ?? 0;
      const bytes = packet.subarray(IPV6_HEADER_SIZE, IPV6_HEADER_SIZE + be16(packet, 4));
      const pseudoHeader = Buffer.concat([
        packet.subarray(8, 40),
        Uint8Array.of(0, 0, ...size16(bytes), 0, 0, 0, protocol),
      ]);
      return { ipVersion: 6, protocol, bytes, pseudoHeader };
    }
    default:
      return undefined;
  }
}

export interface Datagram {
  /** MAC addresses. */
  readonly destination: string;
  readonly source: string;
  /** Both IPv4 or both IPv6, as bytes. */
  readonly fromAddress: Uint8Array;
  readonly toAddress: Uint8Array;
  readonly port: number;
  readonly content: Uint8Array;
}

/** UDP over IPv4 or IPv6, whole. */
export function udpFrame({ destination, source, fromAddress, toAddress, port, content }: Datagram): Uint8Array {
  const udp = Buffer.alloc(UDP_HEADER_SIZE);
  udp.writeUInt16BE(port, 0);
  udp.writeUInt16BE(port, 2);
  udp.writeUInt16BE(UDP_HEADER_SIZE + content.length, 4);
  const isIpv4 = fromAddress.length === 4;
  const segment = Buffer.concat([udp, content]);
  const pseudoHeader = [fromAddress, toAddress, Uint8Array.of(0, UDP, ...size16(segment))];
  segment.writeUInt16BE(0xffff - foldedSum([...pseudoHeader, segment]), 6);
  const ip = isIpv4
    ? ipv4Header(UDP, fromAddress, toAddress, segment.length)
    : Buffer.concat([
        Uint8Array.of(0x60, 0, 0, 0, ...size16(segment), UDP, 64),
        Buffer.concat([fromAddress, toAddress]),
      ]);
  const head = Buffer.from(`${destination}${source}`.replaceAll(':', ''), 'hex');
  return Buffer.concat([head, isIpv4 ? Uint8Array.of(8, 0) : Uint8Array.of(0x86, 0xdd), ip, segment]);
}

function ipv4Header(protocol: number, from: Uint8Array, to: Uint8Array, contentSize: number): Buffer {
  const ip = Buffer.alloc(IPV4_HEADER_SIZE);
  ip.writeUInt16BE(0x4500, 0);
  ip.writeUInt16BE(IPV4_HEADER_SIZE + contentSize, 2);
  ip.writeUInt16BE(0x4000, 6); // not to be fragmented
  ip.writeUInt16BE(0x4000 + protocol, 8);
  ip.set(from, 12);
  ip.set(to, 16);
  ip.writeUInt16BE(0xffff - foldedSum([ip]), 10);
  return ip;
}

export interface TaggedSegment {
  readonly destination: string;
  readonly source: string;
  readonly vlanId: number;
  readonly content: Uint8Array;
}

/** Where TCP's header begins in a tagged frame over IPv4. */
export const TAGGED_TCP_AT = ETHERNET_HEADER_SIZE + VLAN_TAG_SIZE + IPV4_HEADER_SIZE;

/** TCP over IPv4 behind a VLAN tag, with a partial checksum: the sum of the pseudo-header (VIRTIO 1.2, section 5.1.6). */
export function partialTcpFrame({ destination, source, vlanId, content }: TaggedSegment): Uint8Array {
  const tcp = Buffer.alloc(TCP_HEADER_SIZE);
  tcp.writeUInt16BE(40_000, 0);
  tcp.writeUInt16BE(80, 2);
  tcp.writeUInt32BE(1, 4);
  tcp.writeUInt32BE(1, 8);
  tcp.writeUInt16BE(0x5010, 12); // 20 bytes of header, ACK
  tcp.writeUInt16BE(64_000, 14);
  const [from, to] = [Uint8Array.of(10, 7, 0, 1), Uint8Array.of(10, 7, 0, 2)];
  const ip = ipv4Header(TCP, from, to, TCP_HEADER_SIZE + content.length);
  const length = TCP_HEADER_SIZE + content.length;
  tcp.writeUInt16BE(foldedSum([from, to, Uint8Array.of(0, TCP, length >> 8, length & 255)]), 16);
  const head = Buffer.from(`${destination}${source}`.replaceAll(':', ''), 'hex');
  return Buffer.concat([head, Uint8Array.of(0x81, 0, vlanId >> 8, vlanId & 255, 8, 0), ip, tcp, content]);
}

function findPacket(frame: Uint8Array): number {
  return ETHERNET_HEADER_SIZE + (TAG_TYPES.includes(be16(frame, 12)) ? VLAN_TAG_SIZE : 0);
}

function etherType(frame: Uint8Array): number {
  return be16(frame, findPacket(frame) - 2);
}

function be16(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0);
}

function size16({ length }: Uint8Array): [number, number] {
  return [length >> 8, length & 255];
}

/** RFC 1071; each piece but the last has an even size. 0xffff where a checksum is right. */
function foldedSum(pieces: readonly Uint8Array[]): number {
  let sum = 0;
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; at += 2) sum += be16(piece, at);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}
