/** Where a relay and its peer meet in a test: a Unix socket, or AF_VSOCK inside the nested kernel. */
import { join } from 'node:path';
import { IN_NESTED_KERNEL } from './nested-kernel.js';
import type { TestSandbox } from './sandbox.js';

export interface TestEndpoint {
  readonly transport: 'unix' | 'vsock';
  readonly tap: string;
  /** For a relay that listens: `--port N` or `--listen unix:...`, and the name of the TAP. */
  readonly relayArgs: readonly string[];
  /** Where the relay listens, as `--listen` takes it. */
  readonly listenAddress: string;
  /** How that place is dialled. */
  readonly connectAddress: string;
  readonly socketPath: string | undefined;
  readonly vsockPort: number | undefined;
}

export type TestTransport = TestEndpoint['transport'];

/**
 * From ARCA_TEST_TRANSPORT. On the machine's own kernel an AF_VSOCK socket would reach the machine's host: only the
 * nested kernel of scripts/vm has one that ends in itself.
 */
export function testTransport(): TestTransport {
  const text = process.env['ARCA_TEST_TRANSPORT'] ?? 'unix';
  if (text !== 'unix' && text !== 'vsock') throw new Error(`ARCA_TEST_TRANSPORT is unix or vsock, not ${text}`);
  if (text === 'vsock' && !IN_NESTED_KERNEL) {
    throw new Error('ARCA_TEST_TRANSPORT=vsock is for the nested kernel only: scripts/vm -- scripts/test ...');
  }
  return text;
}

/** Ports below 1024 need a capability. */
const FIRST_VSOCK_PORT = 5000;
const CID_LOCAL = 1;
let endpointCount = 0;

export function newEndpoint(sandbox: TestSandbox, transport: TestTransport = testTransport()): TestEndpoint {
  const number = FIRST_VSOCK_PORT + endpointCount++;
  const tap = `tap${number}`;
  if (transport === 'vsock') {
    return {
      ...{ transport, tap, vsockPort: number, socketPath: undefined },
      relayArgs: ['--port', String(number)],
      listenAddress: `vsock:${number}`,
      connectAddress: `vsock:${CID_LOCAL}:${number}`,
    };
  }
  const socketPath = join(sandbox.runDir, `peer-${number}.sock`);
  return {
    ...{ transport, tap, vsockPort: undefined, socketPath },
    relayArgs: ['--listen', `unix:${socketPath}`, '--tap', tap],
    listenAddress: `unix:${socketPath}`,
    connectAddress: `unix:${socketPath}`,
  };
}
