/** Many clients that attach and detach at random. ARCA_TEST_CHURN_SECONDS=120 is the long form; 10 is the suite's. */
import { expect, it } from 'vitest';
import type { ErrorCode } from '../../src/errors.js';
import { makeNetwork, ovnRows, relayFiles, specHere, startControl } from '../support/control.js';
import { useSandbox } from '../support/sandbox.js';
import { expectNothingMore, snapshot } from '../support/system.js';
import { eventually, scaled } from '../support/time.js';

const sandbox = useSandbox();
const CLIENTS = 50;
const CONTAINERS = 20;
const SECONDS = Number(process.env['ARCA_TEST_CHURN_SECONDS'] ?? 10);
/** What two clients that work on one container may meet. */
const EXPECTED: readonly ErrorCode[] = ['attachment-unknown'];

it(
  `${CLIENTS} clients attach and detach at random: no leak, no duplicate, nothing stuck, health green after`,
  async () => {
    const control = await startControl(sandbox.current);
    const networks = [
      (await makeNetwork(sandbox.current, control)).name,
      (await makeNetwork(sandbox.current, control)).name,
    ];
    const before = { system: await snapshot(sandbox.current), rows: await ovnRows(sandbox.current) };
    const deadline = performance.now() + scaled(SECONDS * 1000);
    const counts = { attached: 0, detached: 0 };
    const failures: unknown[] = [];
    const pick = (count: number): number => Math.floor(Math.random() * count);

    async function client(): Promise<void> {
      while (performance.now() < deadline) {
        const container = `c${pick(CONTAINERS)}`;
        const network = networks[pick(networks.length)] ?? '';
        try {
          if (Math.random() < 0.5) {
            const { created, value } = await control.attach(specHere(sandbox.current, container, network));
            if (created) counts.attached++;
            expect(value.state).toBe('ready');
          } else {
            await control.detach(container, network);
            counts.detached++;
          }
        } catch (error) {
          if (!EXPECTED.includes((error as { code: ErrorCode }).code)) failures.push(error);
        }
      }
    }
    await Promise.all(Array.from({ length: CLIENTS }, client));
    expect(failures).toEqual([]);

    const left = await control.listAttachments({});
    expect(counts.attached - counts.detached).toBe(left.length);
    for (const key of ['logicalPort', 'tap', 'relayPid', 'mac'] as const) {
      expect(new Set(left.map((attachment) => attachment[key])).size, key).toBe(left.length);
    }
    expect(left.filter(({ state, restarts }) => state !== 'ready' || restarts > 0)).toEqual([]);
    expect((await control.reconcile({ dryRun: true })).steps).toEqual([]);
    expect(await control.health()).toMatchObject({ state: 'ok' });
    await Promise.all(left.map(({ container, network }) => control.detach(container, network)));
    expect(await control.listAttachments({})).toEqual([]);
    expect(await relayFiles(control)).toEqual([]);
    await eventually('nothing to reconcile', async () =>
      (await control.reconcile({ dryRun: true })).steps.length === 0 ? true : undefined,
    );
    expectNothingMore(before.system, await snapshot(sandbox.current));
    expect(await ovnRows(sandbox.current)).toEqual(before.rows);
    expect(counts.attached).toBeGreaterThan(10);
  },
  scaled(SECONDS * 1000 + 90_000),
);
