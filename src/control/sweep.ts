/** Removes what a relay that was killed left behind. Its TAP went with it. */
import { lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { errnoOf } from '../errors.js';
import { readOvsFacts, removeOwnedPort } from '../ovs/ports.js';
import type { CallOptions } from '../ovsdb/json-rpc.js';
import type { StreamEndpoint } from './model.js';

export interface Sweeper {
  /** The port of OVS of that name, if it carries our mark, and the Unix socket, if nobody listens there. */
  sweep(tap: string, endpoint: StreamEndpoint | undefined): Promise<void>;
}

export function createSweeper(ovsSocketPath: string, call: CallOptions): Sweeper {
  return {
    async sweep(tap, endpoint) {
      if (endpoint?.transport === 'unix') await removeDeadSocket(endpoint.path);
      const { ports } = await readOvsFacts(ovsSocketPath, call);
      for (const port of ports) if (port.name === tap) await removeOwnedPort(ovsSocketPath, port, call);
    },
  };
}

async function removeDeadSocket(path: string): Promise<void> {
  const isSocket = await lstat(path).then(
    (stats) => stats.isSocket(),
    () => false,
  );
  if (isSocket && !(await isListening(path))) await unlink(path).catch(() => {});
}

/** The kernel answers at once, whoever listens. */
function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => done(true));
    socket.once('error', (error) => done(errnoOf(error) !== 'ECONNREFUSED'));
  });
}
