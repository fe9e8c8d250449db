// Creates networks as one control process of several: create-networks.mjs NORTHBOUND-SOCKET STEM COUNT
// Prints `ready` when it is connected, begins when its standard input is closed, then prints its networks as JSON.
import { once } from 'node:events';
import { createNetworks } from '../../dist/control/networks.js';
import { openNorthbound } from '../../dist/ovn/northbound.js';

const [path, stem, count] = process.argv.slice(2);
const northbound = openNorthbound({ target: { transport: 'unix', path } });
const networks = createNetworks({ northbound, timeoutMs: 60_000 });
await networks.list();
process.stdin.resume();
const told = once(process.stdin, 'end');
process.stdout.write('ready\n');
await told;
const made = await Promise.allSettled(
  Array.from({ length: Number(count) }, (_, i) => networks.create({ name: `${stem}${i}` })),
);
const answers = made.map(({ status, value, reason }) =>
  status === 'fulfilled'
    ? { name: value.value.name, vlan: value.value.vlan, created: value.created }
    : { code: reason.code, message: reason.message },
);
process.stdout.write(`${JSON.stringify(answers)}\n`);
await northbound.stop();
