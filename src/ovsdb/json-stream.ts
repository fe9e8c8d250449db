/**
 * Cuts a byte stream into JSON objects. JSON-RPC over a stream (RFC 7047, section 4) puts nothing between its
 * messages: no newline, no length. A message ends where its outermost brace closes.
 *
 * Pure: bytes in, values out. Works on bytes, so that a character of UTF-8 may be cut anywhere too.
 */

export interface JsonStreamParser {
  /** Takes the next bytes and hands each message that they complete to `onMessage`, before it throws on what is no JSON. */
  push(chunk: Uint8Array): void;
}

export interface JsonStreamOptions {
  /** A message that grows beyond this is an error: a peer can't make us keep what it likes. */
  readonly maxMessageBytes?: number;
}

const DEFAULT_MAX_MESSAGE_BYTES = 64 * 1024 * 1024;
/** As OVS's own parser has it (JSON_MAX_HEIGHT). */
const MAX_DEPTH = 1000;
const LEAST_CAPACITY = 4096;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

/** `push` throws `SyntaxError` for what is no JSON object, and `RangeError` for one that is too large or too deep; the stream is of no use then. */
export function createJsonStreamParser(
  onMessage: (message: unknown) => void,
  { maxMessageBytes = DEFAULT_MAX_MESSAGE_BYTES }: JsonStreamOptions = {},
): JsonStreamParser {
  /** Earlier bytes of the message that is not complete yet: one buffer that doubles, however small the chunks are. */
  let held = Buffer.alloc(0);
  let heldBytes = 0;
  /** Braces and brackets that are open. */
  let depth = 0;
  let inString = false;
  let escaped = false;

  function finish(last: Buffer): void {
    const whole = heldBytes === 0 ? last : Buffer.concat([held.subarray(0, heldBytes), last]);
    // What one large message took is not kept for small ones.
    held = Buffer.alloc(0);
    heldBytes = 0;
    onMessage(JSON.parse(whole.toString('utf8')));
  }

  function hold(part: Buffer): void {
    const bytes = heldBytes + part.length;
    if (bytes > maxMessageBytes) throw new RangeError(`a message of more than ${maxMessageBytes} bytes`);
    if (bytes > held.length) {
      const larger = Buffer.allocUnsafe(Math.max(LEAST_CAPACITY, bytes, 2 * held.length));
      held.copy(larger, 0, 0, heldBytes);
      held = larger;
    }
    part.copy(held, heldBytes);
    heldBytes = bytes;
  }

  return {
    push(chunk) {
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      let start = 0;
      for (let i = 0; i < bytes.length; i++) {
        const byte = bytes[i];
        if (inString) {
          if (escaped) escaped = false;
          else if (byte === BACKSLASH) escaped = true;
          else if (byte === QUOTE) inString = false;
        } else if (depth === 0) {
          if (byte === OPEN_BRACE) {
            start = i;
            depth = 1;
          } else if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) {
            throw new SyntaxError(`byte 0x${byte?.toString(16)} where a JSON object should begin`);
          }
        } else if (byte === QUOTE) {
          inString = true;
        } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
          if (++depth > MAX_DEPTH) throw new RangeError(`a message that is nested more than ${MAX_DEPTH} deep`);
        } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
          depth--;
          // Braces that close brackets are for JSON.parse to refuse.
          if (depth === 0) finish(bytes.subarray(start, i + 1));
        }
      }
      if (depth === 0) return;
      // Copied: the chunk may be a view of a buffer that its owner uses again.
      hold(bytes.subarray(start));
    },
  };
}
