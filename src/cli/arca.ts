#!/usr/bin/env node
/** The operator's command line: one file of `arca/` for each group of verbs. */
import { Command, CommanderError } from 'commander';
import { ERROR_KINDS, exitCodeLines, toArcaError } from '../errors.js';
import { readVersion } from '../version.js';
import { addAttachmentCommands } from './arca/attachment.js';
import { addChassisCommands } from './arca/chassis.js';
import { addCompletionCommands } from './arca/completion.js';
import { addDoctorCommands } from './arca/doctor.js';
import { addHealthCommands } from './arca/health.js';
import { addNetworkCommands } from './arca/network.js';
import { addPersistenceCommands } from './arca/persistence.js';
import { addSandboxCommands } from './arca/sandbox.js';
import { addSessionOptions } from './arca/session.js';
import { addStateCommands } from './arca/state.js';
import { visible } from './arca/text.js';

const EXAMPLES = `
A container on a network, from nothing:
  arca network create net-a --subnet 10.9.0.0/24
  arca attach web --network net-a          prints what starts the container's end
  arca ps --watch
  arca detach web --network net-a
  arca network rm net-a

Without an arca-control to ask: arca sandbox up starts a private OVS and OVN, arca-control --help says the rest.
Each verb has --help and --json. Errors go to stderr, one line, and the exit code says which:
`;

function buildProgram(version: string): Command {
  const program = new Command('arca')
    .description("Networks for containers that run in their own VM: the operator's command line")
    .version(version)
    // Options before the verb are ours, those behind it are the verb's.
    .enablePositionalOptions()
    .addHelpText('after', () => `${EXAMPLES}\nExit codes:\n${exitCodeLines().join('\n')}`);
  addSessionOptions(program);
  program.commandsGroup('Networks and containers:');
  addNetworkCommands(program);
  addAttachmentCommands(program);
  program.commandsGroup('How it is:');
  addHealthCommands(program, version);
  program.commandsGroup('The host:');
  addDoctorCommands(program);
  addStateCommands(program);
  addChassisCommands(program);
  addPersistenceCommands(program);
  addSandboxCommands(program);
  program.commandsGroup('The shell:');
  addCompletionCommands(program);
  return program;
}

function overrideExits(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) overrideExits(child);
}

/** Commander's own complaints are usage errors; its help and version are none. It has printed both by then. */
function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : ERROR_KINDS.usage.exitCode;
  const failure = toArcaError(error);
  console.error(`arca: ${visible(failure.message)}`);
  return failure.exitCode;
}

/** Whoever reads our output may have read enough (`arca ps | head -1`). */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const program = buildProgram(readVersion());
overrideExits(program);
try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
}
