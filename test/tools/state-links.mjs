// Devices of a state file, in the namespace in which it runs: state-links.mjs RUN-DIR TIMEOUT-MS JSON
// The JSON: {desired, remembered, undo}. Prints the plan, what is then remembered, and what is left to do, as JSON.
import { applyLink, decodeRemembered, encodeRemembered, planLinks, readLinks } from '../../dist/state/links.js';

const [runDir, timeoutMs, request] = process.argv.slice(2);
const { desired, remembered = '', undo = false } = JSON.parse(request);
const place = { runDir };
const call = { timeoutMs: Number(timeoutMs) };
const undos = [];
try {
  const plan = planLinks(desired, await readLinks(place, call), decodeRemembered(remembered));
  for (const step of plan.steps) undos.push(await applyLink(step, place, call));
  if (undo) for (const back of undos.reverse()) await back(call);
  const after = planLinks(desired, await readLinks(place, call), plan.remember);
  const answer = {
    steps: plan.steps,
    missing: plan.missing,
    warnings: plan.warnings,
    remembered: encodeRemembered(plan.remember),
    left: after.steps,
  };
  process.stdout.write(JSON.stringify(answer));
} catch (error) {
  process.stdout.write(JSON.stringify({ code: error.code ?? 'unexpected', message: error.message }));
}
