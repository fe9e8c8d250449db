/** A database server that does what each test says; the real one is in the integration tests. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createJsonStreamParser } from '../../src/ovsdb/json-stream.js';

export interface Request {
  readonly id: unknown;
  readonly method: string;
  readonly params: readonly unknown[];
  /** Which connection it came on, from 0. */
  readonly connection: number;
  answer(result: unknown): void;
  /** Answers with an error, as ovsdb-server 3.1 does. */
  refuse(error: unknown): void;
  /** Anything, on the connection of this request. */
  send(message: unknown): void;
  /** These bytes, and then the end of the connection. */
  end(bytes: Uint8Array): void;
  /** An `update2` for the monitor of this request. */
  update(tables: unknown): void;
  /** Ends the connection. */
  hangUp(): void;
}

export interface ScriptedOvsdb {
  readonly path: string;
  readonly target: { readonly transport: 'unix'; readonly path: string };
  /** Every request so far, in its order. */
  readonly requests: readonly Request[];
  /** Number of connections so far. */
  connections(): number;
  /** Does nothing by default: the server is silent. */
  onRequest: (request: Request) => void;
  /** Ends every connection; takes new ones. */
  hangUp(): void;
  listen(): Promise<void>;
  /** Ends every connection and takes no new ones. */
  close(): Promise<void>;
  /** `close`, and the folder goes. */
  remove(): Promise<void>;
}

/** With `readsNothing` it takes connections, and that is all. */
export async function scriptedOvsdb({ readsNothing = false } = {}): Promise<ScriptedOvsdb> {
  const folder = mkdtempSync(join(tmpdir(), 'arca-unit-'));
  const path = join(folder, 'db.sock');
  const requests: Request[] = [];
  let sockets: Socket[] = [];
  let count = 0;
  const server = createServer((socket) => {
    const connection = count++;
    sockets.push(socket);
    socket.on('error', () => {});
    socket.on('close', () => {
      sockets = sockets.filter((other) => other !== socket);
    });
    const send = (message: unknown): unknown => socket.write(JSON.stringify(message));
    const parser = createJsonStreamParser((message) => {
      const { id, method, params } = message as Pick<Request, 'id' | 'method' | 'params'>;
      const request: Request = {
        ...{ id, method, params, connection },
        answer: (result) => send({ id, result, error: null }),
        refuse: (error) => send({ id, error }),
        send,
        end: (bytes) => socket.end(bytes),
        update: (tables) => send({ id: null, method: 'update2', params: [params[1], tables] }),
        hangUp: () => socket.destroy(),
      };
      requests.push(request);
      scripted.onRequest(request);
    });
    if (!readsNothing) socket.on('data', (chunk) => parser.push(chunk));
  });

  const hangUp = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  const scripted: ScriptedOvsdb = {
    path,
    target: { transport: 'unix', path },
    requests,
    connections: () => count,
    onRequest: () => {},
    hangUp,
    listen: () => new Promise((resolve) => server.listen(path, resolve)),
    close() {
      hangUp();
      return new Promise((resolve) => server.close(() => resolve()));
    },
    async remove() {
      if (server.listening) await scripted.close();
      rmSync(folder, { recursive: true });
    },
  };
  await scripted.listen();
  return scripted;
}
