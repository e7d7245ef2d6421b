/** `bun run lies --protocol imap --runs 10000 --seed 1`: a mail server that lies by chance, run after run; fails when a promise was broken, and tells the story of that run. `--stall 1500` lets the service stand still now and then, for so many milliseconds at most. */
import { parseArgs } from "node:util";
import { type LyingProtocol, playRuns } from "./world.ts";

const { values } = parseArgs({
  options: {
    protocol: { type: "string", default: "imap" },
    runs: { type: "string", default: "10000" },
    seed: { type: "string", default: "1" },
    "at-once": { type: "string", default: "40" },
    stall: { type: "string", default: "0" },
  },
});
const began = performance.now();
const runs = Number(values.runs);
let played = 0;
let broken = 0;
const PROTOCOLS: readonly LyingProtocol[] = ["imap", "pop3", "ews"];
const protocol = PROTOCOLS.find((one) => one === values.protocol);
if (protocol === undefined) throw new Error(`--protocol must be one of ${PROTOCOLS.join(", ")}`);
const plan = {
  protocol,
  first: Number(values.seed),
  runs,
  atOnce: Number(values["at-once"]),
  stallMs: Number(values.stall),
};
await playRuns(plan, (outcome) => {
  played++;
  if (outcome.broken.length > 0) {
    broken++;
    console.error(`BROKEN in run ${outcome.seed}:\n  ${outcome.broken.join("\n  ")}`);
    if (broken <= 3) console.error(`  story:\n    ${brief(outcome.story).join("\n    ")}`);
  }
  if (played % 500 === 0)
    console.log(`${played} of ${runs} runs, ${broken} broken, ${Math.round((performance.now() - began) / 1000)} s`);
});
console.log(`${played} runs, ${broken} broken, ${Math.round((performance.now() - began) / 1000)} s`);
process.exitCode = broken > 0 ? 1 : 0;

/** A story without its repetitions: of what happened again and again the first two, and how often it happened and when the last time. */
function brief(story: string[]): string[] {
  const same = Map.groupBy(story, (line) => line.replace(/"(at|retryAt|attempt|ms|since)":("[^"]*"|\d+),?/g, ""));
  return story.flatMap((line) => {
    const all = [...same.values()].find((lines) => lines.includes(line)) ?? [line];
    const place = all.indexOf(line);
    if (place < 2) return [line];
    if (place < all.length - 1) return [];
    return [`${all.length} times, the last: ${line}`];
  });
}
