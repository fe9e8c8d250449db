/** Checks of the daemons of OVS and OVN, and of arca-control: each was asked over its own protocol. */
import { type Check, defineCheck, type Judgement } from './check.js';
import type { ControlFacts } from './read/control.js';
import type { DaemonFacts } from './read/daemon.js';

interface DaemonHelp {
  readonly name: string;
  /** What is lost while it does not run. */
  readonly without: string;
  readonly start: string;
}

const OVS_START = 'systemctl start openvswitch-switch (not installed: apt-get install openvswitch-switch)';
const OVN_START = 'systemctl start ovn-central (not installed: apt-get install ovn-central)';

const DAEMONS = {
  ovsdbServer: { name: 'ovsdb-server', without: 'no port can be added or seen', start: OVS_START },
  vswitchd: { name: 'ovs-vswitchd', without: 'nothing is forwarded', start: OVS_START },
  northboundServer: {
    name: 'northbound database',
    without: 'networks and attachments can not be read or changed; what is attached forwards on',
    start: OVN_START,
  },
  southboundServer: {
    name: 'southbound database',
    without: 'ovn-northd can not work, and draws no addresses',
    start: OVN_START,
  },
  northd: { name: 'ovn-northd', without: 'no address is drawn: attach fails', start: OVN_START },
} as const satisfies Record<string, DaemonHelp>;

const SIMPLE_CHECKS: readonly Check[] = (Object.keys(DAEMONS) as (keyof typeof DAEMONS)[]).map((fact) =>
  defineCheck({
    id: DAEMONS[fact].name.replaceAll(' ', '-'),
    title: DAEMONS[fact].name,
    group: 'daemons',
    needs: [fact],
    judge: (facts) => [judgeDaemon(DAEMONS[fact], facts[fact])],
  }),
);

export const DAEMON_CHECKS: readonly Check[] = [
  ...SIMPLE_CHECKS,
  defineCheck({
    id: 'ovn-controller',
    title: 'ovn-controller',
    group: 'daemons',
    needs: ['ovnController'],
    judge: ({ ovnController }) => [judgeController(ovnController)],
  }),
  defineCheck({
    id: 'arca-control',
    title: 'arca-control',
    group: 'daemons',
    needs: ['control'],
    judge: ({ control }) => judgeControl(control),
  }),
];

export function judgeDaemon({ name, without, start }: DaemonHelp, daemon: DaemonFacts): Judgement {
  switch (daemon.state) {
    case 'answers':
      if (name === 'ovn-northd' && /paused/.test(daemon.status ?? '')) {
        const evidence = `${daemon.detail} is paused: ${without}`;
        return { verdict: 'problem', subject: name, evidence, mend: 'ovn-appctl -t ovn-northd resume' };
      }
      return { verdict: 'ok', subject: name, evidence: answerText(daemon) };
    case 'hangs':
      return { verdict: 'problem', subject: name, evidence: `hangs: ${hangText(daemon)}; ${without}`, ...wake(daemon) };
    case 'dead':
      return { verdict: 'problem', subject: name, evidence: `has died: ${daemon.detail}; ${without}`, mend: start };
    case 'strange':
      return {
        verdict: 'problem',
        subject: name,
        evidence: `is something else: ${daemon.detail}; ${without}`,
        mend: start,
      };
    case 'gone':
      return { verdict: 'problem', subject: name, evidence: `does not run: ${daemon.detail}; ${without}`, mend: start };
    case 'denied':
      return { verdict: 'unknown', subject: name, evidence: daemon.detail, mend: 'run as root' };
    case 'elsewhere':
      return { verdict: 'note', subject: name, evidence: `${daemon.detail}: look there` };
  }
}

function answerText({ detail, pid, status }: DaemonFacts): string {
  const of = pid === undefined ? '' : `, process ${pid}`;
  return `${detail}${of}${status === undefined ? '' : `, ${status.replaceAll('\n', ', ')}`}`;
}

function hangText({ detail, pid, isStopped }: DaemonFacts): string {
  if (pid === undefined) return detail;
  return isStopped ? `process ${pid} is stopped (SIGSTOP, or a debugger)` : `${detail} (process ${pid})`;
}

/** One that is stopped goes on where it was; one that is busy with itself has to be looked at. */
function wake({ pid, isStopped }: DaemonFacts): Pick<Judgement, 'mend'> {
  if (pid === undefined) return {};
  return {
    mend: isStopped ? `kill -CONT ${pid}` : `look at it: top -p ${pid}, and its log; restart it if it stays so`,
  };
}

/** In VLAN mode none is needed, so only one that is there can be ill. */
export function judgeController(controller: DaemonFacts): Judgement {
  const subject = 'ovn-controller';
  const { state, detail, status } = controller;
  switch (state) {
    case 'answers':
      if (status === undefined || status === 'connected')
        return { verdict: 'ok', subject, evidence: answerText(controller) };
      return {
        verdict: 'note',
        subject,
        evidence: `runs, and is not connected to the southbound database (${status})`,
        mend: 'ovs-vsctl get Open_vSwitch . external_ids:ovn-remote: is it right, and system-id, ovn-encap-type and ovn-encap-ip set?',
      };
    case 'hangs':
      return { verdict: 'warning', subject, evidence: `hangs: ${hangText(controller)}`, ...wake(controller) };
    case 'dead':
    case 'strange':
      return { verdict: 'note', subject, evidence: `has died: ${detail}; attachments by VLAN tag need none` };
    case 'gone':
      return { verdict: 'ok', subject, evidence: 'none runs here; attachments by VLAN tag need none' };
    case 'denied':
      return { verdict: 'unknown', subject, evidence: detail, mend: 'run as root' };
    case 'elsewhere':
      return { verdict: 'note', subject, evidence: detail };
  }
}

/** Relays live without it, too: that nobody ever started one is no fault. */
export function judgeControl(control: ControlFacts): readonly Judgement[] {
  const subject = 'arca-control';
  const start = 'systemctl start arca-control, or arca-control --run-dir DIR';
  const { state, detail, health } = control;
  switch (state) {
    case 'answers': {
      if (health === undefined) {
        return [{ verdict: 'unknown', subject, evidence: `${detail} answers, and did not tell its health in time` }];
      }
      const ill = health.parts.filter((part) => part.state === 'ill');
      if (ill.length === 0) return [{ verdict: 'ok', subject, evidence: `${detail}; every part of it is well` }];
      return ill.map((part) => ({
        verdict: 'problem',
        subject: `${subject}: ${part.part}`,
        evidence: part.detail,
        mend: 'arca health says more; arca reconcile sets right what can be',
      }));
    }
    case 'hangs':
      return [
        {
          verdict: 'problem',
          subject,
          evidence: `hangs: ${detail}`,
          mend: 'look at its log; relays go on while it is restarted',
        },
      ];
    case 'dead':
    case 'strange':
      return [
        {
          verdict: 'warning',
          subject,
          evidence: `${detail}. Relays go on, and nobody restarts those that end.`,
          mend: start,
        },
      ];
    case 'denied':
      return [{ verdict: 'unknown', subject, evidence: detail, mend: 'run as root, or join its group' }];
    case 'gone':
    case 'elsewhere':
      return [{ verdict: 'note', subject, evidence: 'none runs with this run directory (--run-dir)' }];
  }
}
