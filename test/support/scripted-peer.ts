/** A peer whose every byte the test says: test/tools/peer_tool.cc joins the relay's stream to pipes. */
import { spawn } from 'node:child_process';
import type { TestEndpoint } from './endpoint.js';
import type { TestSandbox } from './sandbox.js';
import { within } from './time.js';
import { PEER_TOOL } from './tools.js';
import { createRecordParser, encodeRecord, FRAME, OFFLOAD, type WireRecord } from './wire.js';

export interface ScriptedPeer {
  /** What the relay sent, so far. */
  readonly records: readonly WireRecord[];
  /** The sizes of the receives that it took; only with `tellsReadSizes`. */
  readonly readSizes: readonly number[];
  /** Resolves when the bytes are on their way: all were taken from the test. */
  send(...bytes: readonly Uint8Array[]): Promise<void>;
  /** In records of type 0. */
  sendFrames(...framesInHex: readonly string[]): Promise<void>;
  /** The first record that holds these bytes, of those from `since` on. */
  waitFor(hex: string, options?: { readonly since?: number; readonly timeoutMs?: number }): Promise<WireRecord>;
  /** Stops reading: what the relay sends stays where it is. */
  pause(): void;
  resume(): void;
  /** Nothing more is sent; resolves when the relay has closed, too. */
  end(): Promise<void>;
  /** Goes without a word. */
  kill(): Promise<void>;
  /** Resolves when the stream is over. */
  readonly closed: Promise<void>;
}

export interface ScriptedPeerOptions {
  /** Bytes of a send at most. */
  readonly writeBytes?: number;
  readonly tellsReadSizes?: boolean;
}

const EVERYTHING = OFFLOAD.checksum | OFFLOAD.tso4 | OFFLOAD.tso6 | OFFLOAD.uso;

/** Resolves when it is connected, which is before the relay has heard of it. */
export async function connectPeer(
  sandbox: TestSandbox,
  { connectAddress }: TestEndpoint,
  { writeBytes, tellsReadSizes = false }: ScriptedPeerOptions = {},
): Promise<ScriptedPeer> {
  const args = ['pipe', connectAddress];
  if (writeBytes !== undefined) args.push('--write-size', String(writeBytes));
  if (tellsReadSizes) args.push('--read-sizes');
  const child = spawn(PEER_TOOL, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const records: WireRecord[] = [];
  const waiting = new Set<() => void>();
  const parser = createRecordParser({ accepts: EVERYTHING });
  let told = '';

  child.stdin.on('error', () => {});
  child.stdout.on('data', (bytes: Buffer) => {
    const { records: more, breach } = parser.push(bytes);
    if (breach !== undefined) throw new Error(`the relay broke the protocol: ${breach}`);
    records.push(...more);
    for (const look of [...waiting]) look();
  });
  const closed = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => {
      resolve();
      for (const look of [...waiting]) look();
    });
  });
  closed.catch(() => {});
  let isClosed = false;
  void closed.then(() => {
    isClosed = true;
  });
  const connected = new Promise<void>((resolve, reject) => {
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      told += text;
      if (told.startsWith('connected\n')) resolve();
    });
    void closed.then(() => reject(new Error(`peer-tool: ${told}`)));
  });

  const peer: ScriptedPeer = {
    records,
    get readSizes() {
      return told.split('\n').slice(1, -1).map(Number);
    },
    send(...bytes) {
      const taken = new Promise<void>((resolve) => {
        // A peer that was closed meanwhile has sent what it could.
        child.stdin.write(Buffer.concat(bytes), () => resolve());
      });
      return within(taken, 'the bytes of a scripted peer to be taken', 20_000);
    },
    sendFrames: (...frames) => peer.send(...frames.map((hex) => encodeRecord(FRAME, Buffer.from(hex, 'hex')))),
    async waitFor(hex, { since = 0, timeoutMs = 5_000 } = {}) {
      const wanted = Buffer.from(hex, 'hex');
      let at = since;
      let look: (() => void) | undefined;
      const found = new Promise<WireRecord>((resolve, reject) => {
        look = () => {
          for (; at < records.length; at++) {
            const record = records[at];
            if (record !== undefined && Buffer.from(record.payload).includes(wanted)) return resolve(record);
          }
          if (isClosed) reject(new Error(`the stream ended without ${hex}`));
        };
        waiting.add(look);
        look();
      });
      try {
        return await within(found, `a record with ${hex}, of ${records.length}`, timeoutMs);
      } finally {
        if (look) waiting.delete(look);
      }
    },
    pause: () => void child.stdout.pause(),
    resume: () => void child.stdout.resume(),
    async end() {
      child.stdin.end();
      await within(closed, 'the relay to close the stream');
    },
    async kill() {
      child.kill('SIGKILL');
      await within(closed, 'the end of peer-tool');
    },
    closed,
  };
  sandbox.defer(peer.kill);
  await within(connected, `a connection to ${connectAddress}`);
  return peer;
}
