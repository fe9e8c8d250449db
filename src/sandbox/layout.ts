/**
 * The run directory of a sandbox: which file is what. The names are the ones that OVS and OVN look for by default, so
 * that with `sandboxEnvironment` exported their own tools need no arguments.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';

export const DEFAULT_RUN_DIR = '/run/arca-sandbox';
const DEFAULT_NETNS = 'arca-sandbox';

export interface SandboxLayout {
  readonly runDir: string;
  /** Our mark in the directory: what `down` needs to know, and the proof that the directory may be deleted. */
  readonly stateFile: string;
  readonly ovsDatabase: string;
  readonly northboundDatabase: string;
  readonly southboundDatabase: string;
  readonly ovsSocket: string;
  readonly northboundSocket: string;
  readonly southboundSocket: string;
}

export function sandboxLayout(runDir: string): SandboxLayout {
  return {
    runDir,
    stateFile: join(runDir, 'sandbox.json'),
    ovsDatabase: join(runDir, 'conf.db'),
    northboundDatabase: join(runDir, 'ovnnb_db.db'),
    southboundDatabase: join(runDir, 'ovnsb_db.db'),
    ovsSocket: join(runDir, 'db.sock'),
    northboundSocket: join(runDir, 'ovnnb_db.sock'),
    southboundSocket: join(runDir, 'ovnsb_db.sock'),
  };
}

/** One namespace a run directory, so that two sandboxes never meet by accident. */
export function defaultNetns(runDir: string): string {
  if (runDir === DEFAULT_RUN_DIR) return DEFAULT_NETNS;
  return `arca-${createHash('sha256').update(runDir).digest('hex').slice(0, 8)}`;
}

/** The variables by which ovs-vsctl, ovs-appctl, ovs-ofctl, ovn-nbctl, ovn-sbctl and ovn-appctl find the sandbox. */
export function sandboxEnvironment(layout: SandboxLayout, netns: string): Record<string, string> {
  const { runDir } = layout;
  return {
    OVS_RUNDIR: runDir,
    OVS_DBDIR: runDir,
    OVS_LOGDIR: runDir,
    OVS_SYSCONFDIR: runDir,
    OVN_RUNDIR: runDir,
    OVN_DBDIR: runDir,
    OVN_LOGDIR: runDir,
    OVN_NB_DB: `unix:${layout.northboundSocket}`,
    OVN_SB_DB: `unix:${layout.southboundSocket}`,
    ARCA_SANDBOX_RUN_DIR: runDir,
    ARCA_SANDBOX_NETNS: netns,
  };
}
