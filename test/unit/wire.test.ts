import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type BreachWord,
  CONTROL,
  type Control,
  createRecordParser,
  decodeControl,
  decodeHello,
  decodeOffloadedFrame,
  encodeControl,
  encodeHello,
  encodeOffloadedFrame,
  encodeRecord,
  encodeRecordHeader,
  encodeTlv,
  FRAME,
  GOODBYE_REASONS,
  HELLO_LARGEST_FRAME,
  HELLO_SMALLEST_FRAME,
  type Hello,
  isHelloFrame,
  LARGEST_FRAME,
  OFFLOAD,
  OFFLOADED_FRAME,
  type RecordLimits,
  type WireRecord,
} from '../support/wire.js';

// --- docs/protocol-vectors.txt, whose head says how it is written

interface Vector {
  readonly name: string;
  readonly limits: string;
  readonly bytes: Uint8Array;
  readonly outcome: readonly string[];
}

function parseBytes(text: string): Uint8Array {
  if (text === '-') return new Uint8Array(0);
  const bytes: number[] = [];
  for (const piece of text.split(',')) {
    const match = /^((?:[0-9a-f]{2})+)(?:\*(\d+))?$/.exec(piece);
    const digits = match?.[1];
    const repeats = match?.[2];
    if (digits === undefined || (repeats !== undefined && digits.length !== 2)) throw new Error(`not bytes: ${piece}`);
    const once = digits.match(/../g)?.map((byte) => Number.parseInt(byte, 16)) ?? [];
    for (let i = 0; i < Number(repeats ?? 1); i++) bytes.push(...once);
  }
  return Uint8Array.from(bytes);
}

const vectorLines = readFileSync(new URL('../../docs/protocol-vectors.txt', import.meta.url), 'utf8')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'));

function vectorsOf(wanted: string): Vector[] {
  return vectorLines.flatMap((line) => {
    const [kind, name, limits, bytes, ...outcome] = line.split(' ');
    if (kind !== wanted) return [];
    if (name === undefined || limits === undefined || bytes === undefined || outcome.length === 0) {
      throw new Error(`not a vector: ${line}`);
    }
    return [{ name, limits, bytes: parseBytes(bytes), outcome }];
  });
}

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function hex64(value: bigint): string {
  return value.toString(16).padStart(16, '0');
}

// --- streams

function limitsOf(text: string): RecordLimits {
  const [accepts = '', largest] = text.split('/');
  const limits = { accepts: Number.parseInt(accepts, 16) };
  return largest === undefined ? limits : { ...limits, largestPayload: Number(largest) };
}

interface Reading {
  readonly records: readonly WireRecord[];
  readonly breach: BreachWord | undefined;
  readonly pendingSize: number;
  readonly neededSize: number;
}

function read(chunks: readonly Uint8Array[], limits: RecordLimits): Reading {
  const parser = createRecordParser(limits);
  const records: WireRecord[] = [];
  let breach: BreachWord | undefined;
  for (const chunk of chunks) {
    const parsed = parser.push(chunk);
    records.push(...parsed.records);
    breach = parsed.breach;
  }
  // After a breach what is left over depends on the cuts, and is of no use.
  const [pendingSize, neededSize] = breach === undefined ? [parser.pendingSize(), parser.neededSize()] : [0, 0];
  return { records, breach, pendingSize, neededSize };
}

function tokensOf(reading: Reading): string[] {
  const records = reading.records.map((record) => `record:${record.type}:${record.payload.length}`);
  if (reading.breach !== undefined) return [...records, `breach:${reading.breach}`];
  return [...records, reading.pendingSize === 0 ? 'end' : `needed:${reading.neededSize}`];
}

function cutAt(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const ends = [...cuts.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b), bytes.length];
  return ends.map((end, i) => bytes.subarray(i === 0 ? 0 : ends[i - 1], end));
}

/** Every byte, but of a long stream both ends only: its middle is all the same byte. */
function cutsOf(bytes: Uint8Array): number[] {
  return Array.from({ length: bytes.length + 1 }, (_, cut) => cut).filter(
    (cut) => cut <= 100 || cut >= bytes.length - 100,
  );
}

describe('vectors: streams', () => {
  it.each(vectorsOf('stream'))('$name', ({ bytes, limits, outcome }) => {
    expect(tokensOf(read([bytes], limitsOf(limits)))).toEqual(outcome);
    for (const cut of cutsOf(bytes)) {
      expect(tokensOf(read(cutAt(bytes, [cut]), limitsOf(limits))), `cut at ${cut}`).toEqual(outcome);
    }
  });
});

// --- HELLO and control

function helloFields(hello: Hello): string[] {
  const optional = (key: string, value: string | number | undefined): string[] =>
    value === undefined ? [] : [`${key}=${value}`];
  return [
    `nonce=${hex64(hello.nonce)}`,
    `accepts=${hello.accepts.toString(16)}`,
    ...optional('largest-record', hello.largestRecord),
    ...optional('largest-burst', hello.largestBurst),
    ...optional('mtu', hello.mtu),
    ...optional('mac', hello.mac),
    ...optional('interface-mac', hello.interfaceMac),
    ...optional('interface-mtu', hello.interfaceMtu),
    ...hello.interfaceAddresses.map((prefix) => `interface-address=${prefix}`),
    ...hello.interfaceGateways.map((address) => `interface-gateway=${address}`),
    ...hello.interfaceDns.map((address) => `interface-dns=${address}`),
  ];
}

function controlFields(control: Control): string[] {
  const fields: string[] = [];
  if (control.ping !== undefined) fields.push(`ping=${hex64(control.ping)}`);
  if (control.pong !== undefined) fields.push(`pong=${hex64(control.pong)}`);
  if (control.goodbye !== undefined) {
    fields.push(`goodbye=${control.goodbye.reason}`);
    if (control.goodbye.detail !== '') fields.push(`detail=${toHex(Buffer.from(control.goodbye.detail, 'latin1'))}`);
  }
  return fields;
}

/** By key; those of one key stay in their order. */
function sortedByKey(fields: readonly string[]): string[] {
  const keyOf = (field: string): string => field.slice(0, field.indexOf('='));
  return fields
    .map((field) => (keyOf(field) === 'detail' ? `detail=${toHex(parseBytes(field.slice(7)))}` : field))
    .sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : keyOf(a) > keyOf(b) ? 1 : 0));
}

function expectDecoded(vector: Vector, fields: readonly string[] | undefined, encoded: Uint8Array | undefined): void {
  const [expected, ...expectedFields] = vector.outcome;
  expect(['canonical', 'decoded', 'malformed']).toContain(expected);
  if (expected === 'malformed') {
    expect(fields).toBeUndefined();
    return;
  }
  expect(fields).toBeDefined();
  expect(sortedByKey(fields ?? [])).toEqual(sortedByKey(expectedFields));
  expect(encoded !== undefined && toHex(encoded) === toHex(vector.bytes)).toBe(expected === 'canonical');
}

describe('vectors: HELLO', () => {
  it.each(vectorsOf('hello'))('$name', (vector) => {
    const addressed = isHelloFrame(vector.bytes);
    expect(addressed).toBe(vector.outcome[0] !== 'ordinary');
    if (!addressed) return;
    const hello = decodeHello(vector.bytes);
    expectDecoded(vector, hello && helloFields(hello), hello && encodeHello(hello));
  });
});

describe('vectors: control', () => {
  it.each(vectorsOf('control'))('$name', (vector) => {
    const control = decodeControl(vector.bytes);
    expectDecoded(vector, control && controlFields(control), control && encodeControl(control));
  });
});

describe('vectors', () => {
  it('are many, of all kinds, and no line of another', () => {
    const counts = ['stream', 'hello', 'control'].map((kind) => vectorsOf(kind).length);
    expect(Math.min(...counts)).toBeGreaterThan(20);
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(vectorLines.length);
  });
});

// --- properties

/** All that a peer can accept. */
const accepts = OFFLOAD.checksum | OFFLOAD.tso4 | OFFLOAD.tso6 | OFFLOAD.uso;

const bytesOf = (least: number, most: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: least, maxLength: most });

const anyRecord: fc.Arbitrary<WireRecord> = fc.oneof(
  fc.record({ type: fc.constant(FRAME), payload: bytesOf(14, 200) }),
  fc.record({
    type: fc.constant(OFFLOADED_FRAME),
    payload: bytesOf(14, 200).map((frame) =>
      encodeOffloadedFrame(
        { flags: 0, gsoType: 0, headerSize: 0, gsoSize: 0, checksumStart: 0, checksumOffset: 0 },
        frame,
      ),
    ),
  }),
  fc.record({ type: fc.constant(CONTROL), payload: bytesOf(0, 60).map((value) => encodeTlv(99, value)) }),
);

describe('the parser', () => {
  it('gives back the records that were encoded, however the stream was cut', () => {
    fc.assert(
      fc.property(fc.array(anyRecord, { maxLength: 8 }), fc.array(fc.nat(1500)), (records, cuts) => {
        const stream = Buffer.concat(records.map((record) => encodeRecord(record.type, record.payload)));
        const reading = read(cutAt(stream, cuts), {});
        expect(reading.breach).toBeUndefined();
        expect(reading.pendingSize).toBe(0);
        expect(reading.records.map((record) => [record.type, toHex(record.payload)])).toEqual(
          records.map((record) => [record.type, toHex(record.payload)]),
        );
      }),
    );
  });

  it('reads the same of any bytes, whole or cut', () => {
    const noise = fc.oneof(
      bytesOf(0, 300),
      // Lengths that are small enough to be met.
      fc
        .array(fc.tuple(fc.nat(3), fc.nat(80), bytesOf(0, 80)), { maxLength: 6 })
        .map((items) => Buffer.concat(items.flatMap(([type, size, rest]) => [encodeRecordHeader(type, size), rest]))),
    );
    fc.assert(
      fc.property(noise, fc.array(fc.nat(400)), (bytes, cuts) => {
        expect(read(cutAt(bytes, cuts), { accepts })).toEqual(read([bytes], { accepts }));
      }),
    );
  });

  it('ignores what comes after a breach', () => {
    const parser = createRecordParser();
    expect(parser.push(encodeRecordHeader(FRAME, LARGEST_FRAME + 1))).toEqual({ records: [], breach: 'too-long' });
    expect(parser.push(encodeRecord(FRAME, new Uint8Array(60)))).toEqual({ records: [], breach: 'too-long' });
  });

  it('gives payloads of their own: later chunks and their reuse do not touch them', () => {
    const parser = createRecordParser();
    const chunk = encodeRecord(FRAME, new Uint8Array(14).fill(7));
    const [record] = parser.push(chunk).records;
    chunk.fill(0xff);
    parser.push(encodeRecord(FRAME, new Uint8Array(14).fill(9)));
    expect(record?.payload).toEqual(new Uint8Array(14).fill(7));
  });
});

describe('an offloaded frame', () => {
  it('is decoded to what was encoded', () => {
    const u16 = fc.nat(0xffff);
    const header = fc.record({
      flags: fc.nat(255),
      gsoType: fc.nat(255),
      headerSize: u16,
      gsoSize: u16,
      checksumStart: u16,
      checksumOffset: u16,
    });
    fc.assert(
      fc.property(header, bytesOf(0, 40), (fields, frame) => {
        const decoded = decodeOffloadedFrame(encodeOffloadedFrame(fields, frame));
        expect(decoded.header).toEqual(fields);
        expect(toHex(decoded.frame)).toBe(toHex(frame));
      }),
    );
  });
});

const u32 = fc.nat(0xffffffff);
const nonce = fc.bigInt(0n, 2n ** 64n - 1n);
const mtu = fc.integer({ min: 68, max: 65535 });
const mac = bytesOf(5, 5).map((tail) => ['02', ...Array.from(tail, (byte) => toHex(Uint8Array.of(byte)))].join(':'));
const ipv4 = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)).map((bytes) => bytes.join('.'));
const group = fc.integer({ min: 1, max: 0xffff }).map((value) => value.toString(16));
/** In their shortest form, so that text can be compared: no zero groups but the ones that `::` stands for. */
const ipv6 = fc
  .tuple(fc.array(group, { maxLength: 3 }), fc.array(group, { maxLength: 3 }))
  .map(([head, tail]) => `${head.join(':')}::${tail.join(':')}`);
const ip = fc.oneof(ipv4, ipv6);
const prefix = fc.oneof(
  fc.tuple(ipv4, fc.nat(32)).map(([address, length]) => `${address}/${length}`),
  fc.tuple(ipv6, fc.nat(128)).map(([address, length]) => `${address}/${length}`),
);

const anyHello: fc.Arbitrary<Hello> = fc.record(
  {
    nonce,
    accepts: u32,
    largestRecord: u32,
    largestBurst: u32,
    mtu,
    mac,
    interfaceMac: mac,
    interfaceMtu: mtu,
    interfaceAddresses: fc.array(prefix, { maxLength: 16 }),
    interfaceGateways: fc.array(ip, { maxLength: 16 }),
    interfaceDns: fc.array(ip, { maxLength: 16 }),
  },
  { requiredKeys: ['nonce', 'accepts', 'interfaceAddresses', 'interfaceGateways', 'interfaceDns'] },
);

describe('a HELLO', () => {
  it('is decoded to what was encoded, is addressed as one, and fits', () => {
    fc.assert(
      fc.property(anyHello, (hello) => {
        const frame = encodeHello(hello);
        expect(isHelloFrame(frame)).toBe(true);
        expect(frame.length).toBeGreaterThanOrEqual(HELLO_SMALLEST_FRAME);
        expect(frame.length).toBeLessThanOrEqual(HELLO_LARGEST_FRAME);
        expect(decodeHello(frame)).toEqual(hello);
      }),
    );
  });

  it('corrupted or cut short is refused, or read as something that can be encoded', () => {
    fc.assert(
      fc.property(anyHello, fc.nat(), fc.nat(255), fc.nat(), (hello, at, value, end) => {
        const frame = encodeHello(hello);
        frame[at % frame.length] = value;
        const decoded = decodeHello(frame.subarray(0, end % (frame.length + 1)));
        if (decoded !== undefined) expect(decodeHello(encodeHello(decoded))).toEqual(decoded);
      }),
      { numRuns: 2000 },
    );
  });

  it('can not be written with an address that is none', () => {
    for (const address of ['10.9.0.256/24', '10.9.0/24', 'fd00:::1/64', '1::2::3/64', 'fd00:1/64', '10.9.0.1']) {
      expect(() => encodeHello({ interfaceAddresses: [address] }), address).toThrow(/not /);
    }
    expect(() => encodeHello({ mac: '02:00:00:00:00' })).toThrow('not a MAC address');
  });
});

const anyControl: fc.Arbitrary<Control> = fc.record(
  {
    ping: nonce,
    pong: nonce,
    goodbye: fc.record({
      reason: fc.constantFrom(...GOODBYE_REASONS),
      detail: fc.string({ unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)) }),
    }),
  },
  { requiredKeys: [] },
);

describe('control', () => {
  it('is decoded to what was encoded', () => {
    fc.assert(
      fc.property(anyControl, (control) => {
        expect(decodeControl(encodeControl(control))).toEqual(control);
      }),
    );
  });

  it('of any bytes is refused, or read as something that can be encoded', () => {
    const tlvs = fc
      .array(fc.tuple(fc.nat(5), fc.oneof(bytesOf(0, 10), bytesOf(8, 8))), { maxLength: 4 })
      .map((items) => Buffer.concat(items.map(([type, value]) => encodeTlv(type, value))));
    fc.assert(
      fc.property(fc.oneof(tlvs, bytesOf(0, 40)), (payload) => {
        const decoded = decodeControl(payload);
        if (decoded !== undefined) expect(decodeControl(encodeControl(decoded))).toEqual(decoded);
      }),
      { numRuns: 1000 },
    );
  });
});
