/** The test command: checks, then the suite on Bun and on Node 24, then the smoke test on Deno; ends with every failure in full and one line of true counts. */
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { bunFailures, denoFailures, lastLines, nodeFailures } from "./tools/failures.ts";

type Counts = { passed: number; failed: number; skipped: number };
type Step = {
  name: string;
  command: string[];
  count: (output: string) => Counts;
  /** What its output says of each failure. */
  failures: (output: string) => string[];
};

const root = fileURLToPath(new URL("..", import.meta.url));
const bin = (name: string) => `node_modules/.bin/${name}`;
const files = readdirSync(`${root}/tests`)
  .filter((name) => name.endsWith(".test.ts"))
  .map((name) => `tests/${name}`)
  .toSorted();
const chosen = process.argv.slice(2).filter((word) => !word.startsWith("-"));
const wanted = chosen.length > 0 ? files.filter((file) => chosen.some((word) => file.includes(word))) : files;

/** Longer than any one test may take; each test has its own shorter deadlines. */
const TEST_MS = 300_000;

const number = (output: string, pattern: RegExp) =>
  [...output.matchAll(pattern)].reduce((sum, match) => sum + Number(match[1]), 0);
const fromBun = (output: string): Counts => ({
  passed: number(output, /^\s*(\d+) pass$/gm),
  failed: number(output, /^\s*(\d+) fail$/gm),
  skipped: number(output, /^\s*(\d+) skip$/gm),
});
const fromNode = (output: string): Counts => ({
  passed: number(output, /^. pass (\d+)$/gm),
  failed: number(output, /^. fail (\d+)$/gm),
  skipped: number(output, /^. skipped (\d+)$/gm),
});
const fromDeno = (output: string): Counts => ({
  passed: number(output, /\| (\d+) passed/g),
  failed: number(output, /(\d+) failed/g),
  skipped: 0,
});
const fromExit = (): Counts => ({ passed: 0, failed: 0, skipped: 0 });

const checks: Step[] = [
  { name: "types", command: [bin("tsc"), "-p", "tsconfig.json"], count: fromExit, failures: lastLines },
  { name: "lint", command: [bin("oxlint"), "--deny-warnings"], count: fromExit, failures: lastLines },
  {
    name: "format",
    command: [bin("prettier"), "--check", "--log-level=warn", "."],
    count: fromExit,
    failures: lastLines,
  },
  { name: "unused code", command: [bin("knip"), "--no-progress"], count: fromExit, failures: lastLines },
];
const backends: Step[] = [
  { name: "servers for the tests", command: [bin("bun"), "tests/prepare.ts"], count: fromExit, failures: lastLines },
];
const suites: Step[] = [
  {
    name: "suite on Bun",
    command: [bin("bun"), "test", "--timeout", String(TEST_MS), ...wanted.map((file) => `./${file}`)],
    count: fromBun,
    failures: bunFailures,
  },
  {
    name: "suite on Node 24",
    command: ["node_modules/node/bin/node", "--test", "--test-reporter=spec", `--test-timeout=${TEST_MS}`, ...wanted],
    count: fromNode,
    failures: nodeFailures,
  },
  {
    name: "smoke test on Deno",
    command: [bin("deno"), "test", "-A", "--no-check", "tests/smoke.test.ts"],
    count: fromDeno,
    failures: denoFailures,
  },
];
const only = process.argv.find((word) => word.startsWith("--only="))?.slice("--only=".length);
const [bunSuite, nodeSuite, denoSuite] = suites.map((step) => [step]);
const named: Record<string, Step[][]> = {
  check: checks.map((step) => [step]),
  bun: [bunSuite ?? []],
  node: [nodeSuite ?? []],
  deno: [denoSuite ?? []],
};
/** Steps one after the other; those in one list at the same time, as each runtime's suite keeps one core busy. */
const all = [...checks.map((step) => [step]), backends, suites.slice(0, 2), suites.slice(2)];
const plan = only
  ? (named[only] ?? [])
  : chosen.length > 0
    ? [backends, ...suites.slice(0, 2).map((step) => [step])]
    : all;

/** Of every failure so far, in which step it was and what was said of it. */
const failed: string[] = [];

function perform({ name, command, count, failures }: Step, aside: boolean): Promise<Counts> {
  const began = performance.now();
  if (!aside) console.log(`\n== ${name}`);
  const [program = "", ...args] = command;
  const child = spawn(program, args, {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined },
  });
  let output = "";
  const keep = (chunk: Buffer) => {
    output += chunk.toString();
    if (!aside) process.stdout.write(chunk);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  return new Promise((resolve) => {
    child.once("error", (error) =>
      resolve((console.log(`${name}: ${error.message}`), { passed: 0, failed: 1, skipped: 0 })),
    );
    child.once("close", (code) => {
      if (aside) console.log(`\n== ${name}\n${output}`);
      const counts = count(output);
      // A step that counts nothing is one check; one that ended badly without naming a failure has failed all the same.
      if (counts.passed + counts.failed === 0)
        Object.assign(counts, code === 0 && count === fromExit ? { passed: 1 } : { failed: 1 });
      else if (code !== 0 && counts.failed === 0) counts.failed = 1;
      if (counts.failed > 0) {
        // With any other code than 1 it broke down: what it said last may tell why.
        const found = new Set([...failures(output), ...(code === 1 ? [] : lastLines(output))]);
        for (const failure of found.size > 0 ? found : lastLines(output)) failed.push(`== ${name}\n${failure}\n`);
      }
      console.log(
        `== ${name}: ${code === 0 ? "ok" : `failed (exit ${code})`}, ${Math.round((performance.now() - began) / 1000)} s`,
      );
      resolve(counts);
    });
  });
}

const total: Counts = { passed: 0, failed: 0, skipped: 0 };
for (const steps of plan) {
  const counted = await Promise.all(steps.map((step, index) => perform(step, index > 0)));
  for (const counts of counted) {
    total.passed += counts.passed;
    total.failed += counts.failed;
    total.skipped += counts.skipped;
  }
}
// At the very end, because often only the end of a long log is kept.
if (failed.length > 0) console.log(`\nFailures\n\n${failed.join("\n")}`);
console.log(`\n${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ""}`);
process.exitCode = total.failed > 0 || plan.length === 0 ? 1 : 0;
