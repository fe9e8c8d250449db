/**
 * The walk of docs/persistence.md, line by line, over real boots: a guest of scripts/vm with systemd, Debian's own units
 * and ours, and a disk that outlives it. The first boot sets up and applies, and ends with a clean shutdown; the second
 * verifies, and ends with a power cut; the third verifies. Containers are namespaces, over AF_VSOCK's loopback.
 * Needs User Mode Linux on this machine, and no privilege.
 */
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Background, startInBackground } from '../support/background.js';
import { IN_NESTED_KERNEL } from '../support/nested-kernel.js';
import { scaled, within } from '../support/time.js';

const TREE = resolve('.');
const VM = resolve('scripts/vm');
const PAGE = resolve('docs/persistence.md');
const BOOT_TIMEOUT_MS = scaled(600_000);
const CUT = 'cut the power now';

/** Not in the nested kernel itself, and not where it does not run. */
const whyNot = ((): string => {
  if (IN_NESTED_KERNEL) return 'not inside the nested kernel';
  try {
    execFileSync(VM, ['--probe'], { stdio: 'pipe' });
    return '';
  } catch {
    return 'User Mode Linux does not run here';
  }
})();

/** The commands of a step: the code blocks below its heading, in their order. */
async function step(number: number): Promise<string> {
  const page = await readFile(PAGE, 'utf8');
  const section = page.split(/^##+ /m).find((text) => text.startsWith(`${number}. `)) ?? '';
  const blocks = [...section.matchAll(/^```\n([\s\S]*?)^```$/gm)].map(([, block = '']) => block);
  if (blocks.length === 0) throw new Error(`${PAGE} has no commands for step ${number}`);
  return blocks.join('');
}

/** What [installing](docs/install.md) leaves, and a cable: eth0 of this machine, with somebody at its other end. */
const INSTALL = `
cat >'/etc/systemd/system/opt-arca\\x2drelay.mount' <<END
[Mount]
What=${TREE}
Where=/opt/arca-relay
Options=bind
[Install]
WantedBy=local-fs.target
END
cat >/etc/systemd/system/cable.service <<END
[Unit]
Before=network-pre.target ovsdb-server.service
DefaultDependencies=no
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/ip netns add wire
ExecStart=/sbin/ip link add eth0 type veth peer name wire0 netns wire
ExecStart=/sbin/ip link set eth0 up
ExecStart=/sbin/ip -n wire link set wire0 up
ExecStart=/sbin/ip -n wire address add 10.0.0.2/24 dev wire0
[Install]
WantedBy=sysinit.target
END
systemctl daemon-reload
systemctl enable --now cable 'opt-arca\\x2drelay.mount'
for program in arca arca-control arca-relay; do
  chmod 755 /opt/arca-relay/dist/cli/$program.js
  ln -sf /opt/arca-relay/dist/cli/$program.js /usr/local/bin/$program
done
cd /opt/arca-relay
install -D -m 644 docs/install.md /usr/local/share/doc/arca-relay/install.md
install -m 644 packaging/systemd/*.service /etc/systemd/system/
install -D -m 644 packaging/systemd/arca.sysusers /usr/lib/sysusers.d/arca.conf
systemd-sysusers
systemctl daemon-reload
cd /
`;

/** The VMs of the containers start with every boot, too. Then: who reaches whom, and by which datapath. */
const FORWARDS = `
arca_tap() { ip netns add $1; ip netns exec $1 /opt/arca-relay/build/Release/arca-tap --connect vsock:1:$2 --tap eth0 --quiet & }
arca_tap web 5001
arca_tap api 5002
reaches() { timeout 60 bash -c "until ip netns exec $1 ping -q -c 1 -W 1 $2 >/dev/null 2>&1; do :; done"; }
reaches api 10.9.0.2
reaches web 10.9.0.3
reaches wire 10.0.0.1
ip netns exec api ping -q -c 2 10.9.0.2
echo "datapaths: $(ovs-vsctl get Bridge br-int datapath_type) $(ovs-vsctl get Bridge vmbr0 datapath_type)"
echo "tags: $(ovs-vsctl get Port tap5001 tag) $(ovs-vsctl get Port tap5002 tag)"
echo "flows: $(ovs-ofctl dump-flows vmbr0 | grep -c priority=50)"
echo "system-id: $(ovs-vsctl get Open_vSwitch . external_ids:system-id)"
`;

/** Written after the last clean boot, and brought to the disk by the durable commit of the check behind it. */
const BEFORE_THE_CUT = `
ovs-vsctl set Open_vSwitch . external_ids:before-the-cut=written
arca persistence check >/dev/null
# The cut comes while the database is written to.
while :; do ovs-vsctl --no-wait set Open_vSwitch . external_ids:beat=$((beat += 1)); done &
echo ${CUT}
sleep infinity
`;

const AFTER_THE_CUT = `
ovs-vsctl get Open_vSwitch . external_ids:before-the-cut
ovsdb-tool query /etc/openvswitch/conf.db '["Open_vSwitch"]' >/dev/null
`;

interface Guest {
  readonly process: Background;
  /** Of the output up to now. */
  told(what: string): string | undefined;
}

describe.skipIf(whyNot !== '')(`what survives a reboot (needs User Mode Linux) ${whyNot}`, () => {
  it.concurrent.each(['system', 'netdev'])(
    'the walk of docs/persistence.md, with datapath %s',
    async (datapath) => {
      const folder = await mkdtemp(join(tmpdir(), `arca-reboot-${datapath}-`));
      const disk = join(folder, 'disk');
      const page = async (...numbers: number[]): Promise<string> => {
        const steps = await Promise.all(numbers.map(step));
        return steps
          .join('')
          .replaceAll('"datapath_type": "system"', `"datapath_type": "${datapath}"`)
          .replaceAll('datapath_type=system', `datapath_type=${datapath}`);
      };
      const guests: Background[] = [];
      const boot = async (commands: string): Promise<Guest> => {
        const script = join(folder, 'boot.sh');
        await writeFile(script, `set -eo pipefail\n${commands}`);
        const options = ['--systemd', '--disk', disk, '--timeout', String(BOOT_TIMEOUT_MS / 1000)];
        const guest = startInBackground('nice', ['-n', '5', VM, ...options, '--', 'bash', script]);
        guests.push(guest);
        return {
          process: guest,
          told: (what) => guest.stdout.all.find((line) => line.startsWith(`${what}: `))?.slice(what.length + 2),
        };
      };
      const shutDown = async ({ process }: Guest): Promise<void> => {
        const { exitCode } = await within(process.ended, 'the shutdown', BOOT_TIMEOUT_MS);
        expect({ exitCode, said: exitCode === 0 ? [] : [...process.stdout.all, ...process.stderr.all] }).toEqual({
          exitCode: 0,
          said: [],
        });
      };
      try {
        expect(await step(4)).toBe('systemctl reboot\n');

        const first = await boot(INSTALL + (await page(1, 2, 3)) + FORWARDS);
        await shutDown(first);
        const before = ['datapaths', 'tags', 'flows', 'system-id'].map((what) => first.told(what));
        expect(before.slice(0, 3)).toEqual([`${datapath} ${datapath}`, '100 100', '1']);

        const second = await boot((await page(5)) + FORWARDS + BEFORE_THE_CUT);
        await second.process.stdout.waitFor((line) => line === CUT, { timeoutMs: BOOT_TIMEOUT_MS });
        second.process.kill('SIGTERM'); // scripts/vm kills the guest
        expect(await within(second.process.ended, 'the power cut', scaled(10_000))).toMatchObject({ exitCode: 143 });
        expect(['datapaths', 'tags', 'flows', 'system-id'].map((what) => second.told(what))).toEqual(before);

        const third = await boot(AFTER_THE_CUT + (await page(5)) + FORWARDS);
        await shutDown(third);
        expect(third.process.stdout.all).toContain('written');
        expect(['datapaths', 'tags', 'flows', 'system-id'].map((what) => third.told(what))).toEqual(before);
      } finally {
        await Promise.all(guests.map((guest) => guest.destroy()));
        await rm(folder, { recursive: true, force: true });
      }
    },
    3 * BOOT_TIMEOUT_MS,
  );
});
