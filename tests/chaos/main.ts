/**
 * `bun run chaos --seed 7 --minutes 10`: breaks everything there is for a while, and ends with a table; fails when a promise was broken.
 * With `--without-broker` there is no RabbitMQ: API nodes over Redis alone. With `--graph` every third mailbox is in Microsoft 365 and
 * not on Exchange.
 */
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chaos } from "./chaos.ts";
import { broken, table } from "./report.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    minutes: { type: "string", default: "6" },
    mailboxes: { type: "string", default: "50" },
    "without-broker": { type: "boolean", default: false },
    graph: { type: "boolean", default: false },
  },
});
const began = performance.now();
const say = (line: string) =>
  console.log(`${String(Math.round((performance.now() - began) / 1000)).padStart(5)} s  ${line}`);
const seed = Number(values.seed);
const { minutes, mailboxes, "without-broker": withoutBroker } = values;
const outcome = await chaos({
  seed,
  seconds: Number(minutes) * 60,
  mailboxes: Number(mailboxes),
  withoutBroker,
  third: values.graph ? "graph" : "exchange",
  say,
});
if (outcome) {
  console.log(`\n${table(outcome, `Chaos, seed ${seed}, ${values.minutes} minutes`)}\n`);
  const sentences = broken(outcome);
  for (const sentence of sentences) console.error(`BROKEN: ${sentence}`);
  if (sentences.length > 0) {
    const path = join(tmpdir(), `chaos-${seed}.log`);
    await writeFile(path, outcome.log);
    console.error(`The nodes' last words: ${path}`);
  }
  process.exitCode = sentences.length > 0 ? 1 : 0;
}
