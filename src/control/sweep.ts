/** Removes what a relay that was killed left behind. Its TAP went with it. */
import { readOvsFacts, removeOwnedPort } from '../ovs/ports.js';
import type { CallOptions } from '../ovsdb/json-rpc.js';
import type { StreamEndpoint } from '../stream-endpoint.js';
import { removeDeadSocket } from '../unix-socket.js';

export interface Sweeper {
  /** The port of OVS of that name, if it carries our mark, and the Unix socket, if nobody listens there. */
  sweep(tap: string, endpoint: StreamEndpoint | undefined): Promise<void>;
}

export function createSweeper(ovsSocketPath: string, call: CallOptions): Sweeper {
  return {
    async sweep(tap, endpoint) {
      if (endpoint?.transport === 'unix') await removeDeadSocket(endpoint.path).catch(() => {});
      const { ports } = await readOvsFacts(ovsSocketPath, call);
      for (const port of ports) if (port.name === tap) await removeOwnedPort(ovsSocketPath, port, call);
    },
  };
}
