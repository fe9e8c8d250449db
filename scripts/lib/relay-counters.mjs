#!/usr/bin/env node
// relay-counters.mjs SOCKET...: what the status sockets of relays say of their traffic, as lines for people.
import { get } from 'node:http';
import { basename } from 'node:path';

const number = (count) => new Intl.NumberFormat('en-US').format(count);

for (const socketPath of process.argv.slice(2)) {
  const { tag, counters } = JSON.parse(await readStatus(socketPath));
  console.log(`  ${basename(socketPath, '.sock')}, tag ${tag}; dropped in the TAP's queue: ${counters.tapQueueDrops}`);
  for (const direction of ['tapToStream', 'streamToTap']) {
    const { frames, bytes, bursts, drops } = counters[direction];
    const dropped = Object.values(drops).reduce((sum, count) => sum + count, 0);
    const [f, b, u, d] = [frames, bytes, bursts, dropped].map(number);
    console.log(`    ${direction}  ${f} frames, ${b} bytes, ${u} bursts, ${d} dropped`);
  }
}

async function readStatus(socketPath) {
  const response = await new Promise((resolve, reject) => {
    get({ socketPath, path: '/status', agent: false, timeout: 5000 }, resolve).on('error', reject);
  });
  let body = '';
  for await (const text of response) body += text;
  return body;
}
