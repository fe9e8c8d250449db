/**
 * One engine with any number of links, as its own process: node density-engine.js ADDON PATH_PREFIX
 *
 * Lines on standard input: `make N` makes relays until there are N, number i with TAP `d<i>` and listening on
 * PATH_PREFIX<i>; `collect` collects garbage. Each is answered on standard output. The end of the input ends it.
 */
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import type * as native from '../src/native.js';

const [, , addonPath = '', pathPrefix = ''] = process.argv;
const { Engine } = createRequire(import.meta.url)(addonPath) as Pick<typeof native, 'Engine'>;
const engine = new Engine();
const relays: native.NativeRelay[] = [];

function make(count: number): void {
  while (relays.length < count) {
    const index = relays.length;
    const options: native.NativeRelayOptions = {
      tap: `d${index}`,
      mtu: 1500,
      allowedCids: [],
      onSecondPeer: 'refuse',
      burstBytes: 0,
      interfaceConfig: {},
      // The next hop is this machine's own stack, which takes all of them.
      offloads: ['checksum', 'tso4', 'tso6'],
    };
    const relay = engine.createRelay(options, () => {});
    relay.listen({ transport: 'unix', path: `${pathPrefix}${index}` });
    relays.push(relay);
  }
}

console.log('started');
for await (const line of createInterface({ input: process.stdin })) {
  const [command, argument] = line.split(' ');
  if (command === 'make') make(Number(argument));
  if (command === 'collect') globalThis.gc?.();
  console.log(`done ${line}`);
}
// The kernel takes the TAPs with the process.
process.exit(0);
