/** What the test command shows of failed tests at its end, on the real reports of the runtimes. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { bunFailures, denoFailures, lastLines, nodeFailures } from "./tools/failures.ts";

const modules = fileURLToPath(new URL("../node_modules", import.meta.url));
const failing = `
import { deepEqual } from "node:assert/strict";
import { describe, it, before } from "node:test";
describe("a suite", () => {
  it("a good test", () => console.log("said by a good test"));
  it("a bad test", () => { console.log("said by a bad test"); deepEqual({ a: 1 }, { a: 2 }); });
  it("another good test", () => undefined);
  it("a long story", () => {
    for (let n = 0; n < 500; n++) console.log("line", n);
    throw new Error("the end of the story");
  });
});
`;
const runtimes = [
  { name: "Bun", program: ".bin/bun", args: ["test"], failures: bunFailures },
  { name: "Node", program: "node/bin/node", args: ["--test-reporter=spec"], failures: nodeFailures },
  { name: "Deno", program: ".bin/deno", args: ["test", "-A", "--no-check"], failures: denoFailures },
];

describe("the failures at the end of a test run", () => {
  let folder = "";
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "failures-"));
    writeFileSync(join(folder, "failing.test.ts"), failing);
    writeFileSync(join(folder, "broken.test.ts"), `throw new Error("this file cannot be loaded");`);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const { name, program, args, failures } of runtimes) {
    test(`each failed test of ${name} is told with its error, and the lines of each are few`, () => {
      const env = { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined, NODE_TEST_CONTEXT: undefined };
      const told = ["./failing.test.ts", ...(name === "Deno" ? [] : ["./broken.test.ts"])].flatMap((file) => {
        const run = spawnSync(join(modules, program), [...args, file], { cwd: folder, env, encoding: "utf8" });
        const output = `${run.stdout}\n${run.stderr}`;
        const found = failures(output);
        // As the test command does with a file that ended badly and named no failed test.
        return found.length > 0 ? found : lastLines(output);
      });
      // Both streams come in their order where they are read together; here Bun's report is the second.
      const of = (text: string) => told.find((failure) => failure.includes(text)) ?? "";
      assert.match(of("a bad test"), /AssertionError[^]*\ba: 1[^]*\ba: 2/);
      assert.match(of("a long story"), /the end of the story[^]*failing\.test\.ts:10/);
      if (name !== "Deno") assert.match(of("this file cannot be loaded"), /broken\.test\.ts/);
      assert.equal(told.length, name === "Deno" ? 2 : 3);
      for (const failure of told) assert.ok(failure.split("\n").length <= 100, failure);
    });
  }
});
