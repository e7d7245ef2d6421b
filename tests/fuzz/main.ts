/**
 * `bun run fuzz [--cases 100000] [--only imap] [--seed 1] [--replay PLACE]`: random messages, header values, bodies of requests, and
 * dialogues with mail servers whose answers are changed on the way. Prints the seed first; a failure says how to run it again.
 */
import { parseArgs } from "node:util";
import { TARGETS } from "./targets.ts";

const { values } = parseArgs({
  options: {
    cases: { type: "string", default: "100000" },
    only: { type: "string" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 31)) },
    replay: { type: "string" },
  },
});
const seed = Number(values.seed);
const chosen = TARGETS.filter(({ name }) => values.only === undefined || name === values.only);
if (chosen.length === 0) throw new Error(`--only is one of ${TARGETS.map(({ name }) => name).join(", ")}`);
const mb = () => Math.round(process.memoryUsage().rss / 1_000_000);

console.log(`Seed ${seed}`);
for (const event of ["uncaughtException", "unhandledRejection"] as const)
  process.on(event, (error: unknown) => {
    console.error(`Nobody caught this, with seed ${seed}:`, error);
    process.exit(1);
  });
for (const { name, share, run } of chosen) {
  const began = performance.now();
  const cases = Math.ceil(Number(values.cases) * (values.only === undefined ? share : 1));
  const outcome = await run({ cases, seed, replay: values.replay });
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  console.log(`${name.padEnd(10)} ${String(outcome.cases).padStart(7)} cases ${seconds.padStart(7)} s ${mb()} MB`);
  if (outcome.failure === undefined) continue;
  console.error(`FAILED: ${outcome.failure}`);
  process.exitCode = 1;
}
// Sockets of dialogues that were cut may still be closing.
process.exit();
