import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createJsonStreamParser } from '../../src/ovsdb/json-stream.js';

/** As ovsdb-server 3.1 sends them: nothing between the messages. */
const RECORDED =
  '{"id":1,"result":{"Bridge":{"b02f506c-fe95-4677-bf4f-49dd914217fd":{"initial":{"name":"br-int","ports":["uuid","9aaaea72-42c6-47db-be7f-b9d43bc40d3d"],"datapath_type":"netdev"}}},"Open_vSwitch":{"02a3326e-960c-4011-b4e7-3fc7022a5f54":{"initial":{}}}},"error":null}' +
  '{"id":null,"method":"update2","params":["m1",{"Port":{"4ff184da-b430-4eae-b62e-1cfbd93a624f":{"modify":{"tag":["set",[]]}}}}]}' +
  '{"id":4,"result":[{"details":"\\"wait\\" timed out after 500 ms","error":"timed out"}],"error":null}' +
  '{"id":8,"error":{"syntax":"[\\"NoDb\\"]","details":"}{ \\\\ ü 𝒳 ]["}}';
const MESSAGE_COUNT = 4;

function parseAll(chunks: readonly Uint8Array[]): unknown[] {
  const messages: unknown[] = [];
  const parser = createJsonStreamParser((message) => messages.push(message));
  for (const chunk of chunks) parser.push(chunk);
  return messages;
}

describe('createJsonStreamParser', () => {
  const bytes = Buffer.from(RECORDED);
  const whole = parseAll([bytes]);

  it('separates messages that have nothing between them', () => {
    expect(whole).toHaveLength(MESSAGE_COUNT);
    expect(whole[3]).toMatchObject({ error: { details: '}{ \\ ü 𝒳 ][' } });
  });

  it('gives the same messages when the stream is cut at any byte', () => {
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(parseAll([bytes.subarray(0, cut), bytes.subarray(cut)])).toEqual(whole);
    }
  });

  it('gives the same messages one byte at a time', () => {
    expect(parseAll([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(whole);
  });

  it('keeps nothing of a chunk that its owner uses again', () => {
    const chunk = Buffer.from('{"a":"first"');
    const messages: unknown[] = [];
    const parser = createJsonStreamParser((message) => messages.push(message));
    parser.push(chunk);
    chunk.fill(0x7a);
    parser.push(Buffer.from('}'));
    expect(messages).toEqual([{ a: 'first' }]);
  });

  it('reads any objects, cut anywhere', () => {
    const messages = fc.array(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()), { maxLength: 5 });
    fc.assert(
      fc.property(messages, fc.array(fc.nat()), fc.constantFrom('', ' ', '\n', '\r\n\t'), (sent, cuts, between) => {
        const stream = Buffer.from(sent.map((message) => JSON.stringify(message)).join(between));
        const points = [0, ...cuts.map((cut) => cut % (stream.length + 1)), stream.length].sort((a, b) => a - b);
        const chunks = points.slice(1).map((end, i) => stream.subarray(points[i], end));
        expect(parseAll(chunks)).toEqual(sent.map((message) => JSON.parse(JSON.stringify(message))));
      }),
    );
  });

  it('delivers what is whole before it throws on garbage', () => {
    const messages: unknown[] = [];
    const parser = createJsonStreamParser((message) => messages.push(message));
    expect(() => parser.push(Buffer.from('{"a":1}garbage'))).toThrow(SyntaxError);
    expect(messages).toEqual([{ a: 1 }]);
  });

  it.each(['[1]', '"text"', '1', '}', '{]', '{"a":}', '{"a":1]'])('throws on %s', (text) => {
    expect(() => parseAll([Buffer.from(text)])).toThrow(SyntaxError);
  });

  it('refuses a message that is nested deeper than any of OVS', () => {
    const nested = (depth: number): Buffer => Buffer.from(`{"a":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`);
    expect(parseAll([nested(1000)])).toHaveLength(1);
    expect(() => parseAll([nested(1001)])).toThrow(RangeError);
  });

  it('keeps no more of a message than its bytes, though each comes alone', () => {
    const parser = createJsonStreamParser(() => {});
    parser.push(Buffer.from('{"a":"'));
    const before = process.memoryUsage();
    const count = 2_000_000;
    const byte = Buffer.from('x');
    for (let i = 0; i < count; i++) parser.push(byte);
    const after = process.memoryUsage();
    const grown = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers;
    // A Buffer for each would take a hundred times its byte; garbage of the loop is among these too.
    expect(grown).toBeLessThan(60 * count);
  });

  it('refuses a message that never ends', () => {
    const parser = createJsonStreamParser(() => {}, { maxMessageBytes: 1000 });
    parser.push(Buffer.from(`{"a":"${'x'.repeat(900)}`));
    expect(() => parser.push(Buffer.from('x'.repeat(200)))).toThrow(RangeError);
  });
});
