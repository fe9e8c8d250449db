#!/usr/bin/env node
// tally.mjs DIRECTORY: adds up what the parts of scripts/test left there. Of the part NAME:
//   NAME.exit     the exit code of what ran it
//   NAME.json     Vitest's report        NAME.doctest  what doctest printed
//   NAME.skipped  why it could not run on this machine
// A part that ended badly without a failed test, or that ran no test, counts as one failure. Ends with the line
// `N passed, N failed, N skipped`; exit code 1 unless something passed and nothing failed.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const [directory] = process.argv.slice(2);
const read = (name, kind) => {
  const file = join(directory, `${name}.${kind}`);
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
};

function countOf(name) {
  const skippedBecause = read(name, 'skipped');
  if (skippedBecause !== undefined) return { passed: 0, failed: 0, skipped: 1, note: skippedBecause.trim() };
  const exitCode = Number(read(name, 'exit'));
  const count = countOfVitest(read(name, 'json')) ?? countOfDoctest(read(name, 'doctest'));
  if (count === undefined || count.passed + count.failed === 0) {
    if (name === 'check' && exitCode === 0) return undefined; // holds no tests
    return { passed: 0, failed: 1, skipped: 0, note: `ran no test, exit code ${exitCode}` };
  }
  if (exitCode !== 0 && count.failed === 0) return { ...count, failed: 1, note: `ended with exit code ${exitCode}` };
  return count;
}

function countOfVitest(text) {
  if (text === undefined) return undefined;
  let report;
  try {
    report = JSON.parse(text);
  } catch {
    return undefined; // cut short
  }
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

// [doctest] test cases:  90 |  89 passed | 1 failed | 2 skipped
function countOfDoctest(text) {
  const [, passed, failed, skipped] =
    text?.match(/^\[doctest\] test cases: +\d+ \| +(\d+) passed \| +(\d+) failed \| +(\d+) skipped/m) ?? [];
  return passed === undefined ? undefined : { passed: +passed, failed: +failed, skipped: +skipped };
}

const parts = readdirSync(directory)
  .filter((file) => /\.(exit|skipped)$/.test(file))
  .map((file) => basename(file).replace(/\.\w+$/, ''));
const total = { passed: 0, failed: 0, skipped: 0 };
for (const name of parts.sort()) {
  const count = countOf(name);
  if (count === undefined) continue;
  const { passed, failed, skipped, note } = count;
  const line = `  ${name.padEnd(18)} ${passed} passed, ${failed} failed, ${skipped} skipped`;
  console.log(note ? `${line} (${note})` : line);
  for (const kind of Object.keys(total)) total[kind] += count[kind];
}
if (total.passed + total.failed === 0) total.failed = 1;
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed === 0 ? 0 : 1;
