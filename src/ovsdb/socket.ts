/** Makes the stream that JSON-RPC runs on: a Unix or TCP socket, or TLS. */
import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { type RpcServer, type TlsFiles, targetText } from './remote.js';
import { type CallOptions, RpcError } from './rpc-error.js';

interface Attempt {
  readonly socket: Socket;
  readonly readyEvent: 'connect' | 'secureConnect';
}

/** Rejects with `RpcError` (`unreachable`, `timed-out`, `aborted`). */
export async function connectSocket(server: RpcServer, call: CallOptions): Promise<Socket> {
  const where = targetText(server);
  // Read each time: certificates are renewed while we run.
  const keys = server.transport === 'ssl' ? await readKeys(where, server.files) : undefined;
  const begin = (): Attempt => {
    switch (server.transport) {
      case 'unix':
        return { socket: connect(server.path), readyEvent: 'connect' };
      case 'tcp':
        return { socket: connect({ host: server.host, port: server.port }), readyEvent: 'connect' };
      case 'ssl':
        // As OVS does it: who is signed by the CA is trusted, whatever the name in its certificate.
        return {
          socket: connectTls({ host: server.host, port: server.port, ...keys, checkServerIdentity: () => undefined }),
          readyEvent: 'secureConnect',
        };
    }
  };
  return whenReady(begin, where, call);
}

async function readKeys(where: string, files: TlsFiles): Promise<{ key: Buffer; cert: Buffer; ca: Buffer }> {
  const read = async (what: string, path: string): Promise<Buffer> => {
    try {
      return await readFile(path);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new RpcError('unreachable', `can not connect to ${where}: the ${what} can not be read: ${why}`, { cause });
    }
  };
  const [key, cert, ca] = await Promise.all([
    read('private key', files.privateKey),
    read('certificate', files.certificate),
    read('CA certificate', files.caCertificate),
  ]);
  return { key, cert, ca };
}

function whenReady(begin: () => Attempt, where: string, { timeoutMs, signal }: CallOptions): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const unreachable = (cause: unknown): RpcError => {
      const why = cause instanceof Error ? cause.message : String(cause);
      return new RpcError('unreachable', `can not connect to ${where}: ${why}`, { cause });
    };
    if (signal?.aborted) {
      reject(new RpcError('aborted', `not connected to ${where}: aborted`));
      return;
    }
    let attempt: Attempt;
    try {
      attempt = begin();
    } catch (cause) {
      // Keys that are none.
      reject(unreachable(cause));
      return;
    }
    const { socket, readyEvent } = attempt;
    const timer = setTimeout(
      () => fail(new RpcError('timed-out', `${where} did not take a connection in ${Math.round(timeoutMs)} ms`)),
      timeoutMs,
    );
    const onAbort = (): void => fail(new RpcError('aborted', `not connected to ${where}: aborted`));
    const onError = (cause: unknown): void => fail(unreachable(cause));
    const onReady = (): void => {
      release();
      resolve(socket);
    };

    function release(): void {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      socket.off('error', onError);
      socket.off(readyEvent, onReady);
    }
    function fail(error: RpcError): void {
      release();
      socket.on('error', () => {});
      socket.destroy();
      reject(error);
    }
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.once('error', onError);
    socket.once(readyEvent, onReady);
  });
}
