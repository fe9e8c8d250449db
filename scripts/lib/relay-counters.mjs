#!/usr/bin/env node
// relay-counters.mjs SOCKET: what a relay's status socket says of its traffic, as lines for people.
import { get } from 'node:http';

const [socketPath] = process.argv.slice(2);
const response = await new Promise((resolve, reject) => {
  get({ socketPath, path: '/status', timeout: 5000 }, resolve).on('error', reject);
});
let body = '';
for await (const text of response) body += text;
const { counters } = JSON.parse(body);

const number = new Intl.NumberFormat('en-US');
for (const direction of ['tapToStream', 'streamToTap']) {
  const { frames, bytes, bursts, drops } = counters[direction];
  const dropped = Object.values(drops).reduce((sum, count) => sum + count, 0);
  const [f, b, u, d] = [frames, bytes, bursts, dropped].map((count) => number.format(count));
  console.log(`  ${direction}  ${f} frames, ${b} bytes, in ${u} bursts; ${d} dropped`);
}
console.log(`  drops at the TAP's queue: ${number.format(counters.tapQueueDrops)}`);
