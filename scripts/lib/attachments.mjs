#!/usr/bin/env node
// arca ps --json | attachments.mjs FIELD...: a line for each attachment, sorted by its container, with these properties of
// it, an endpoint as it is dialled on this kernel.
import { text } from 'node:stream/consumers';

const CID_LOCAL = 1;
const fields = process.argv.slice(2);

const printed = (value) => {
  if (Array.isArray(value)) return value.join(',');
  if (value?.transport === 'unix') return `unix:${value.path}`;
  if (value?.transport === 'vsock') return `vsock:${CID_LOCAL}:${value.port}`;
  return String(value);
};

const attachments = JSON.parse(await text(process.stdin));
for (const attachment of attachments.sort((a, b) => a.container.localeCompare(b.container))) {
  console.log(fields.map((field) => printed(attachment[field])).join(' '));
}
