/** What the test of each protocol plays: 200 runs in all, one half on each runtime. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { playRuns, type LyingProtocol } from "./world.ts";

const RUNS = 100;
/** Another seed is another story, so the runtimes do not play the same ones. */
const FIRST = "bun" in process.versions ? 1 : 1 + RUNS;

/** Whatever a server says: every message that stays is delivered once or parked, and none is deleted without its bytes accepted. */
export function testAgainstLiars(protocol: LyingProtocol, atOnce: number): void {
  test(`in ${RUNS} runs against ${protocol} servers that lie by chance nothing is lost, repeated, or deleted without having been accepted`, async () => {
    const broken: string[] = [];
    let played = 0;
    await playRuns({ protocol, first: FIRST, runs: RUNS, atOnce }, (outcome) => {
      played++;
      if (outcome.broken.length > 0) broken.push(`seed ${outcome.seed}: ${outcome.broken.join("; ")}`);
    });
    assert.equal(played, RUNS);
    assert.deepEqual(broken, [], `\`bun run lies --protocol ${protocol} --runs 1 --seed N\` tells the story of one`);
  });
}
