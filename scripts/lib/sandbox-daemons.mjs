#!/usr/bin/env node
// sandbox-daemons.mjs kill|start DIR: ends every daemon of the sandbox in DIR with SIGKILL, at once, as a power cut would;
// or starts them again on the databases that they left.
import { openSandbox } from '../../dist/sandbox/sandbox.js';

const [action, directory] = process.argv.slice(2);
const sandbox = await openSandbox(directory);
if (!sandbox || (action !== 'kill' && action !== 'start')) {
  console.error('usage: sandbox-daemons.mjs kill|start DIR, where DIR is that of a sandbox');
  process.exit(2);
}
if (action === 'kill') {
  const daemons = Object.keys(await sandbox.daemons());
  await Promise.all(daemons.map((name) => sandbox.kill(name, 'SIGKILL')));
} else {
  await Promise.all(['ovsdb-server', 'ovn-northbound', 'ovn-southbound'].map((name) => sandbox.start(name)));
  await Promise.all(['ovs-vswitchd', 'ovn-northd'].map((name) => sandbox.start(name)));
}
