/**
 * The wire protocol of docs/protocol.md for scripted peers: records, HELLO and control as bytes, and back.
 *
 * Pure: it knows no socket. It shares nothing with the native codec but docs/protocol-vectors.txt, to which both are
 * held. Encoders check nothing beyond what can't be written down, for a scripted peer must be able to misbehave.
 */

export const FRAME = 0;
export const OFFLOADED_FRAME = 1;
export const CONTROL = 2;

const RECORD_HEADER_SIZE = 4;
const VIRTIO_NET_HEADER_SIZE = 10;
const ETHERNET_HEADER_SIZE = 14;
/** 65535 bytes of IP packet, the Ethernet header and one VLAN tag. */
export const LARGEST_FRAME = 65553;
const LARGEST_RECORD_PAYLOAD = LARGEST_FRAME + VIRTIO_NET_HEADER_SIZE;
const LARGEST_CONTROL_PAYLOAD = 1024;

/** Bits of `accepts`. */
export const OFFLOAD = { checksum: 1, tso4: 2, tso6: 4, uso: 8 } as const;

export type BreachWord =
  | 'unknown-type'
  | 'too-short'
  | 'too-long'
  | 'unknown-flags'
  | 'unknown-gso-type'
  | 'zero-gso-size'
  | 'checksum-outside-frame'
  | 'offload-not-agreed'
  | 'malformed-control';

export interface WireRecord {
  readonly type: number;
  readonly payload: Uint8Array;
}

// --- bytes

function concat(pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((size, piece) => size + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function be16(value: number): Uint8Array {
  const bytes = new Uint8Array(2);
  viewOf(bytes).setUint16(0, value);
  return bytes;
}

function be32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setUint32(0, value);
  return bytes;
}

function be64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, value);
  return bytes;
}

// --- records

/** The 4 bytes alone, whose length may be a lie. */
export function encodeRecordHeader(type: number, payloadSize: number): Uint8Array {
  return be32(type * 2 ** 24 + payloadSize);
}

export function encodeRecord(type: number, payload: Uint8Array): Uint8Array {
  return concat([encodeRecordHeader(type, payload.length), payload]);
}

export interface VirtioNetHeader {
  readonly flags: number;
  readonly gsoType: number;
  readonly headerSize: number;
  readonly gsoSize: number;
  readonly checksumStart: number;
  readonly checksumOffset: number;
}

/** The payload of a record of type 1. */
export function encodeOffloadedFrame(header: VirtioNetHeader, frame: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(VIRTIO_NET_HEADER_SIZE);
  const view = viewOf(bytes);
  view.setUint8(0, header.flags);
  view.setUint8(1, header.gsoType);
  view.setUint16(2, header.headerSize, true);
  view.setUint16(4, header.gsoSize, true);
  view.setUint16(6, header.checksumStart, true);
  view.setUint16(8, header.checksumOffset, true);
  return concat([bytes, frame]);
}

export function decodeOffloadedFrame(payload: Uint8Array): { header: VirtioNetHeader; frame: Uint8Array } {
  const view = viewOf(payload);
  const header = {
    flags: view.getUint8(0),
    gsoType: view.getUint8(1),
    headerSize: view.getUint16(2, true),
    gsoSize: view.getUint16(4, true),
    checksumStart: view.getUint16(6, true),
    checksumOffset: view.getUint16(8, true),
  };
  return { header, frame: payload.subarray(VIRTIO_NET_HEADER_SIZE) };
}

const OFFLOAD_OF_GSO_TYPE: ReadonlyMap<number, number> = new Map([
  [0, 0],
  [1, OFFLOAD.tso4],
  [4, OFFLOAD.tso6],
  [5, OFFLOAD.uso],
]);
const NEEDS_CHECKSUM = 1;
const KNOWN_FLAGS = 3;

function breachOfOffloadedFrame(payload: Uint8Array, accepts: number): BreachWord | undefined {
  const { header, frame } = decodeOffloadedFrame(payload);
  if ((header.flags & ~KNOWN_FLAGS) !== 0) return 'unknown-flags';
  const segmentation = OFFLOAD_OF_GSO_TYPE.get(header.gsoType);
  if (segmentation === undefined) return 'unknown-gso-type';
  if (segmentation !== 0 && header.gsoSize === 0) return 'zero-gso-size';
  const needsChecksum = (header.flags & NEEDS_CHECKSUM) !== 0;
  if (needsChecksum && header.checksumStart + header.checksumOffset + 2 > frame.length) return 'checksum-outside-frame';
  const needed = segmentation | (needsChecksum ? OFFLOAD.checksum : 0);
  return (needed & ~accepts) === 0 ? undefined : 'offload-not-agreed';
}

// --- the parser

/** What the reader announced in its own HELLO. */
export interface RecordLimits {
  readonly accepts?: number;
  readonly largestPayload?: number;
}

interface ParsedChunk {
  /** The records that became whole, in order; copies that the parser does not touch again. */
  readonly records: WireRecord[];
  /** Why the stream can't be read further. The parser then ignores every later chunk. */
  readonly breach?: BreachWord;
}

export interface RecordParser {
  push(chunk: Uint8Array): ParsedChunk;
  /** Bytes of the unfinished record that are here; 0 if there is none. */
  pendingSize(): number;
  /** Bytes that the unfinished record needs in all, as far as is known: 4 until its header is whole. */
  neededSize(): number;
}

function payloadRange(type: number, largestPayload: number): [least: number, most: number] | undefined {
  switch (type) {
    case FRAME:
      return [ETHERNET_HEADER_SIZE, Math.min(largestPayload, LARGEST_FRAME)];
    case OFFLOADED_FRAME:
      return [VIRTIO_NET_HEADER_SIZE + ETHERNET_HEADER_SIZE, Math.min(largestPayload, LARGEST_RECORD_PAYLOAD)];
    case CONTROL:
      return [1, LARGEST_CONTROL_PAYLOAD];
    default:
      return undefined;
  }
}

function breachOfHeader(type: number, payloadSize: number, largestPayload: number): BreachWord | undefined {
  const range = payloadRange(type, largestPayload);
  if (range === undefined) return 'unknown-type';
  if (payloadSize < range[0]) return 'too-short';
  return payloadSize > range[1] ? 'too-long' : undefined;
}

function breachOfRecord(record: WireRecord, accepts: number): BreachWord | undefined {
  if (record.type === OFFLOADED_FRAME) return breachOfOffloadedFrame(record.payload, accepts);
  if (record.type === CONTROL && decodeControl(record.payload) === undefined) return 'malformed-control';
  return undefined;
}

/** Reads a stream in whatever pieces it arrives. */
export function createRecordParser(limits: RecordLimits = {}): RecordParser {
  const accepts = limits.accepts ?? 0;
  const largestPayload = limits.largestPayload ?? LARGEST_RECORD_PAYLOAD;
  let pending = new Uint8Array(0);
  let breach: BreachWord | undefined;

  function neededSize(): number {
    if (pending.length < RECORD_HEADER_SIZE) return RECORD_HEADER_SIZE;
    return RECORD_HEADER_SIZE + (viewOf(pending).getUint32(0) & 0xffffff);
  }

  /** The record at the head of what is pending, or nothing: it is not whole, or a breach. */
  function takeRecord(): WireRecord | undefined {
    if (pending.length < RECORD_HEADER_SIZE) return undefined;
    const size = neededSize();
    const type = viewOf(pending).getUint8(0);
    breach = breachOfHeader(type, size - RECORD_HEADER_SIZE, largestPayload);
    if (breach !== undefined || pending.length < size) return undefined;
    const record = { type, payload: pending.slice(RECORD_HEADER_SIZE, size) };
    breach = breachOfRecord(record, accepts);
    if (breach !== undefined) return undefined;
    pending = pending.subarray(size);
    return record;
  }

  return {
    push(chunk) {
      const records: WireRecord[] = [];
      if (breach === undefined) {
        pending = new Uint8Array(concat([pending, chunk]));
        for (let record = takeRecord(); record !== undefined; record = takeRecord()) records.push(record);
      }
      return breach === undefined ? { records } : { records, breach };
    },
    pendingSize: () => pending.length,
    neededSize,
  };
}

// --- TLVs

interface Tlv {
  readonly type: number;
  readonly value: Uint8Array;
}

const TLV_HEADER_SIZE = 4;

/** A TLV whose length fits its value. */
export function encodeTlv(type: number, value: Uint8Array): Uint8Array {
  return concat([be16(type), be16(value.length), value]);
}

/** Undefined if the list is malformed. */
function decodeTlvs(bytes: Uint8Array): Tlv[] | undefined {
  const tlvs: Tlv[] = [];
  const view = viewOf(bytes);
  let at = 0;
  while (bytes.length - at >= TLV_HEADER_SIZE) {
    const type = view.getUint16(at);
    const end = at + TLV_HEADER_SIZE + view.getUint16(at + 2);
    if (type === 0) return tlvs;
    if (end > bytes.length) return undefined;
    tlvs.push({ type, value: bytes.subarray(at + TLV_HEADER_SIZE, end) });
    at = end;
  }
  return bytes.subarray(at).every((byte) => byte === 0) ? tlvs : undefined;
}

// --- addresses as text

const MAC_PATTERN = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;

function encodeMac(text: string): Uint8Array {
  if (!MAC_PATTERN.test(text)) throw new Error(`not a MAC address: ${text}`);
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}

function decodeMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

function encodeIpv4(text: string): Uint8Array {
  const parts = text.split('.').map(Number);
  const legal = parts.length === 4 && parts.every((part) => Number.isInteger(part) && part >= 0 && part <= 255);
  if (!legal) throw new Error(`not an IPv4 address: ${text}`);
  return Uint8Array.from(parts);
}

function encodeIpv6(text: string): Uint8Array {
  const groupsOf = (half: string | undefined): number[] =>
    half === undefined || half === '' ? [] : half.split(':').map((group) => Number.parseInt(group, 16));
  const [head, tail, more] = text.split('::');
  const before = groupsOf(head);
  const after = groupsOf(tail);
  const missing = 8 - before.length - after.length;
  const groups = [...before, ...new Array<number>(Math.max(missing, 0)).fill(0), ...after];
  const shortened = tail !== undefined;
  const legal = more === undefined && groups.length === 8 && (shortened ? missing > 0 : missing === 0);
  if (!legal || groups.some((group) => !(group >= 0 && group <= 0xffff))) {
    throw new Error(`not an IPv6 address: ${text}`);
  }
  return concat(groups.map(be16));
}

function encodeIp(text: string): Uint8Array {
  return text.includes(':') ? encodeIpv6(text) : encodeIpv4(text);
}

/** As RFC 5952 writes it: the first of the longest runs of two or more zero groups is shortened. */
function decodeIpv6(bytes: Uint8Array): string {
  const view = viewOf(bytes);
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(i * 2).toString(16));
  let run = { at: 0, size: 0 };
  for (let at = 0; at < groups.length; at++) {
    let size = 0;
    while (groups[at + size] === '0') size++;
    if (size >= 2 && size > run.size) run = { at, size };
  }
  if (run.size === 0) return groups.join(':');
  return `${groups.slice(0, run.at).join(':')}::${groups.slice(run.at + run.size).join(':')}`;
}

function decodeIp(bytes: Uint8Array): string {
  return bytes.length === 4 ? Array.from(bytes).join('.') : decodeIpv6(bytes);
}

function encodePrefix(text: string): Uint8Array {
  const [address, length] = text.split('/');
  if (address === undefined || length === undefined) throw new Error(`not a prefix: ${text}`);
  return concat([Uint8Array.of(Number(length)), encodeIp(address)]);
}

function decodePrefix(bytes: Uint8Array): string {
  return `${decodeIp(bytes.subarray(1))}/${bytes[0] ?? 0}`;
}

// --- HELLO

export const HELLO_SMALLEST_FRAME = 60;
export const HELLO_LARGEST_FRAME = 1294;
const HELLO_DESTINATION = Uint8Array.of(0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e);
const HELLO_ETHER_TYPE = 0x88b5;
const HELLO_MAGIC = 0x41524341; // "ARCA"
const HELLO_VERSION = 1;
const HELLO_TLVS_AT = 30;
const HELLO_MOST_ADDRESSES = 16;
const HELLO_SMALLEST_MTU = 68;

const HELLO_TLV = {
  accepts: 1,
  largestRecord: 2,
  largestBurst: 3,
  mtu: 4,
  mac: 5,
  interfaceMac: 16,
  interfaceMtu: 17,
  interfaceAddress: 18,
  interfaceGateway: 19,
  interfaceDns: 20,
} as const;

/** An absent field is not in the frame; `accepts` always is. */
export interface Hello {
  nonce: bigint;
  accepts: number;
  largestRecord?: number;
  largestBurst?: number;
  mtu?: number;
  mac?: string;
  interfaceMac?: string;
  interfaceMtu?: number;
  /** `10.9.0.2/24` */
  interfaceAddresses: string[];
  interfaceGateways: string[];
  interfaceDns: string[];
}

function helloTlvs(hello: Partial<Hello>): Uint8Array[] {
  const one = <T>(type: number, value: T | undefined, encode: (value: T) => Uint8Array): Uint8Array[] =>
    value === undefined ? [] : [encodeTlv(type, encode(value))];
  const each = (type: number, values: readonly string[] | undefined, encode: (value: string) => Uint8Array) =>
    (values ?? []).map((value) => encodeTlv(type, encode(value)));
  return [
    encodeTlv(HELLO_TLV.accepts, be32(hello.accepts ?? 0)),
    ...one(HELLO_TLV.largestRecord, hello.largestRecord, be32),
    ...one(HELLO_TLV.largestBurst, hello.largestBurst, be32),
    ...one(HELLO_TLV.mtu, hello.mtu, be16),
    ...one(HELLO_TLV.mac, hello.mac, encodeMac),
    ...one(HELLO_TLV.interfaceMac, hello.interfaceMac, encodeMac),
    ...one(HELLO_TLV.interfaceMtu, hello.interfaceMtu, be16),
    ...each(HELLO_TLV.interfaceAddress, hello.interfaceAddresses, encodePrefix),
    ...each(HELLO_TLV.interfaceGateway, hello.interfaceGateways, encodeIp),
    ...each(HELLO_TLV.interfaceDns, hello.interfaceDns, encodeIp),
  ];
}

/** The frame, padded; to be sent in a record of type 0. */
export function encodeHello(hello: Partial<Hello>): Uint8Array {
  const frame = concat([
    HELLO_DESTINATION,
    encodeMac(hello.mac ?? '02:00:00:00:00:00'),
    be16(HELLO_ETHER_TYPE),
    be32(HELLO_MAGIC),
    Uint8Array.of(HELLO_VERSION, 0, 0, 0),
    be64(hello.nonce ?? 0n),
    ...helloTlvs(hello),
  ]);
  return concat([frame, new Uint8Array(Math.max(HELLO_SMALLEST_FRAME - frame.length, 0))]);
}

/** Whether a frame of 14 bytes or more is addressed as a HELLO. */
export function isHelloFrame(frame: Uint8Array): boolean {
  const addressed = HELLO_DESTINATION.every((byte, i) => frame[i] === byte);
  return addressed && viewOf(frame).getUint16(12) === HELLO_ETHER_TYPE;
}

/** Undefined if the frame is not one that this version can read. */
export function decodeHello(frame: Uint8Array): Hello | undefined {
  if (frame.length < HELLO_TLVS_AT || frame.length > HELLO_LARGEST_FRAME) return undefined;
  const view = viewOf(frame);
  if (view.getUint32(14) !== HELLO_MAGIC || view.getUint8(18) !== HELLO_VERSION) return undefined;
  const tlvs = decodeTlvs(frame.subarray(HELLO_TLVS_AT));
  if (tlvs === undefined) return undefined;
  const hello: Hello = {
    nonce: view.getBigUint64(22),
    accepts: 0,
    interfaceAddresses: [],
    interfaceGateways: [],
    interfaceDns: [],
  };
  return tlvs.every((tlv) => readHelloTlv(tlv, hello)) ? hello : undefined;
}

/** False if the value does not fit its type. */
function readHelloTlv({ type, value }: Tlv, hello: Hello): boolean {
  const is = (legal: boolean, store: () => void): boolean => {
    if (legal) store();
    return legal;
  };
  const view = viewOf(value);
  switch (type) {
    case HELLO_TLV.accepts:
      return is(value.length === 4, () => (hello.accepts = view.getUint32(0)));
    case HELLO_TLV.largestRecord:
      return is(value.length === 4, () => (hello.largestRecord = view.getUint32(0)));
    case HELLO_TLV.largestBurst:
      return is(value.length === 4, () => (hello.largestBurst = view.getUint32(0)));
    case HELLO_TLV.mtu:
      return is(isMtu(value), () => (hello.mtu = view.getUint16(0)));
    case HELLO_TLV.mac:
      return is(isInterfaceMac(value), () => (hello.mac = decodeMac(value)));
    case HELLO_TLV.interfaceMac:
      return is(isInterfaceMac(value), () => (hello.interfaceMac = decodeMac(value)));
    case HELLO_TLV.interfaceMtu:
      return is(isMtu(value), () => (hello.interfaceMtu = view.getUint16(0)));
    case HELLO_TLV.interfaceAddress:
      return appendTo(hello.interfaceAddresses, value, isPrefix, decodePrefix);
    case HELLO_TLV.interfaceGateway:
      return appendTo(hello.interfaceGateways, value, isIp, decodeIp);
    case HELLO_TLV.interfaceDns:
      return appendTo(hello.interfaceDns, value, isIp, decodeIp);
    default:
      return true;
  }
}

function appendTo(
  list: string[],
  value: Uint8Array,
  isLegal: (value: Uint8Array) => boolean,
  decode: (value: Uint8Array) => string,
): boolean {
  if (!isLegal(value) || list.length === HELLO_MOST_ADDRESSES) return false;
  list.push(decode(value));
  return true;
}

function isMtu(value: Uint8Array): boolean {
  return value.length === 2 && viewOf(value).getUint16(0) >= HELLO_SMALLEST_MTU;
}

function isInterfaceMac(value: Uint8Array): boolean {
  const isGroup = ((value[0] ?? 0) & 1) !== 0;
  return value.length === 6 && !isGroup && value.some((byte) => byte !== 0);
}

function isIp(value: Uint8Array): boolean {
  return value.length === 4 || value.length === 16;
}

function isPrefix(value: Uint8Array): boolean {
  const address = value.subarray(1);
  return isIp(address) && (value[0] ?? 0) <= address.length * 8;
}

// --- control

const CONTROL_TLV = { ping: 1, pong: 2, goodbye: 4 } as const;
const GOODBYE_LARGEST_DETAIL = 200;

/** In the order of their numbers on the wire. */
export const GOODBYE_REASONS = ['unspecified', 'stopped', 'replaced', 'busy', 'breach'] as const;
type GoodbyeReason = (typeof GOODBYE_REASONS)[number];

interface Goodbye {
  reason: GoodbyeReason;
  /** For people: at most 200 characters of printable ASCII. */
  detail: string;
}

export interface Control {
  ping?: bigint;
  pong?: bigint;
  goodbye?: Goodbye;
}

/** The payload of a record of type 2. */
export function encodeControl(control: Control): Uint8Array {
  const pieces: Uint8Array[] = [];
  if (control.ping !== undefined) pieces.push(encodeTlv(CONTROL_TLV.ping, be64(control.ping)));
  if (control.pong !== undefined) pieces.push(encodeTlv(CONTROL_TLV.pong, be64(control.pong)));
  if (control.goodbye !== undefined) {
    const { reason, detail } = control.goodbye;
    const text = Uint8Array.from(detail.slice(0, GOODBYE_LARGEST_DETAIL), (character) => character.charCodeAt(0));
    pieces.push(encodeTlv(CONTROL_TLV.goodbye, concat([be16(GOODBYE_REASONS.indexOf(reason)), text])));
  }
  return concat(pieces);
}

/** Undefined if the payload is malformed, which is a breach. */
export function decodeControl(payload: Uint8Array): Control | undefined {
  const tlvs = decodeTlvs(payload);
  const control: Control = {};
  return tlvs?.every((tlv) => readControlTlv(tlv, control)) ? control : undefined;
}

function readControlTlv({ type, value }: Tlv, control: Control): boolean {
  switch (type) {
    case CONTROL_TLV.ping:
    case CONTROL_TLV.pong:
      if (value.length !== 8) return false;
      control[type === CONTROL_TLV.ping ? 'ping' : 'pong'] = viewOf(value).getBigUint64(0);
      return true;
    case CONTROL_TLV.goodbye:
      if (value.length < 2) return false;
      control.goodbye = decodeGoodbye(value);
      return true;
    default:
      return true;
  }
}

function decodeGoodbye(value: Uint8Array): Goodbye {
  const text = value.subarray(2, 2 + GOODBYE_LARGEST_DETAIL);
  const detail = Array.from(text, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '?')).join('');
  return { reason: GOODBYE_REASONS[viewOf(value).getUint16(0)] ?? 'unspecified', detail };
}
