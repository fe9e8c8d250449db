/** Before the first integration test: says what is missing, builds the tools, sweeps what a killed run left. */
import { existsSync } from 'node:fs';
import { TAP_PROGRAM } from './container.js';
import { testTransport } from './endpoint.js';
import { RELAY_PROGRAM } from './relay.js';
import { sweepDeadSandboxes, testDatapath } from './sandbox.js';
import { buildTools } from './tools.js';

export default async function setUp(): Promise<void> {
  testTransport();
  testDatapath();
  if (process.geteuid?.() !== 0) throw new Error('the integration tests need root: they make network namespaces');
  for (const program of [RELAY_PROGRAM, TAP_PROGRAM]) {
    if (!existsSync(program)) throw new Error(`${program} is not built: npm run build`);
  }
  await buildTools();
  await sweepDeadSandboxes();
}
