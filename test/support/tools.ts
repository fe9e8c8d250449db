/** The small C++ programs of test/tools: what a test needs of the kernel and no command offers. */
import { mkdirSync, renameSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { run } from '../../src/exec.js';
import { scaled } from './time.js';

const SOURCES = fileURLToPath(new URL('../tools/', import.meta.url));
const FOLDER = fileURLToPath(new URL('../../build/test-tools/', import.meta.url));

export const FRAME_TOOL = `${FOLDER}frame_tool`;
/** Command prefix: the program behind it finds no vsock in the kernel. */
export const NO_VSOCK_TOOL = `${FOLDER}no_vsock`;
export const PEER_TOOL = `${FOLDER}peer_tool`;
export const TRANSFER_TOOL = `${FOLDER}transfer_tool`;

/** Builds those that are missing or older than their source. Two test runs at once do not disturb each other. */
export async function buildTools(): Promise<void> {
  mkdirSync(FOLDER, { recursive: true });
  await Promise.all([FRAME_TOOL, NO_VSOCK_TOOL, PEER_TOOL, TRANSFER_TOOL].map(build));
}

async function build(program: string): Promise<void> {
  const source = program.replace(FOLDER, SOURCES).concat('.cc');
  const builtAt = statSync(program, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (builtAt >= statSync(source).mtimeMs) return;
  const built = `${program}.${process.pid}`;
  await run('g++', ['-std=c++20', '-O1', '-Wall', '-Wextra', '-Werror', '-pthread', '-o', built, source], {
    timeoutMs: scaled(60_000),
  });
  renameSync(built, program);
}
