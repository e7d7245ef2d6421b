/**
 * The test command: checks, then the suite on Bun and on Node 24 and the smoke test on Deno. It ends with the seconds of each
 * file, every failure in full, and one line of true counts.
 */
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { provide } from "./servers/provide.ts";
import { bundleService } from "./tools/bundle.ts";
import { bunFailures, denoFailures, lastLines, nodeFailures } from "./tools/failures.ts";

type Counts = { passed: number; failed: number; skipped: number };
type Step = {
  name: string;
  /** It waits nearly all of the time. */
  isPatient?: boolean;
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
/** Longer than any one step may take. */
const STEP_MS = 900_000;

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
  { name: "format", command: [bin("oxfmt"), "--check"], count: fromExit, failures: lastLines },
  { name: "unused code", command: [bin("knip"), "--no-progress"], count: fromExit, failures: lastLines },
];
const backends: Step[] = [
  { name: "servers for the tests", command: [bin("bun"), "tests/prepare.ts"], count: fromExit, failures: lastLines },
];
/** These files wait nearly all of the time. They run one after the other, beside those that share the cores. */
const PATIENT = ["rabbit", "failover"];
/** The other files that take longest, the longest first. Those that lie need a core each, so other files stand between them. */
const LONGEST = [
  "imap-lies",
  "chaos",
  "schemathesis",
  "strangers",
  "strangers-nodes",
  "cluster",
  "ews-lies",
  "redis-queue",
  "pop3-stories",
  "console-add",
  "ews-stories",
  "preferred-workers",
  "cluster-faults",
  "pop3-cluster",
  "pop3-lies",
  "deploy-servers",
  "sending-nodes",
  "redis",
  "move",
  "corpus",
  "bulk",
  "sending-faults",
  "console",
  "console-history",
  "ews-sending-faults",
  "creatio",
  "stories",
  "sending-servers",
];
/**
 * Once is enough, on Bun: the first ones read texts of the repository, the second ones start nodes on both runtimes. The third ones prove
 * what is no part of the service: the demo, whose command is Bun's, and the tests' own Graph server.
 */
const TEXTS = ["architecture", "audit", "deploy", "documents", "failures"];
const BOTH_RUNTIMES = [
  "chaos",
  "cluster",
  "cluster-faults",
  "console-verified",
  "deploy-servers",
  "ews-cluster",
  "keys-rotate-nodes",
  "pop3-cluster",
  "preferred-workers",
  "sending-nodes",
  "strangers-nodes",
];
const BESIDE = ["demo", "graph-clients"];
/**
 * Stories above sockets, stores, queues and protocols, which have tests of their own on both runtimes. Each story runs once: one half of
 * them on Bun, the other half on Node. With `--both-runtimes` each runs on both.
 */
const STORIES_ON_BUN = [
  "application-stories",
  "cli",
  "connections",
  "console-add",
  "console-bodies",
  "console-endpoints",
  "console-history",
  "console-search",
  "creatio",
  "ews-stories",
  "key-rotation",
  "move",
  "move-to-graph",
  "pop3-stories",
  "record-exchange",
  "sending-answers",
  "sending-faults",
  "strangers",
];
const STORIES_ON_NODE = [
  "bulk",
  "creatio-exchange",
  "ews-sending-faults",
  "graph-push",
  "graph-stories",
  "import",
  "no-secrets",
  "record",
  "schemathesis",
  "sending-servers",
  "stories",
  "task-stories",
  "tokens",
];
/** The paths of these test files. A name without a file is a mistake in a list above. */
function pathsOf(names: string[]): string[] {
  const paths = names.map((name) => `tests/${name}.test.ts`);
  const unknown = paths.filter((path) => !files.includes(path));
  if (unknown.length > 0) throw new Error(`There is no file ${unknown.join(", ")}: correct the lists of tests/run.ts`);
  return paths;
}
const isEachOnBoth = process.argv.includes("--both-runtimes");
const ON_BUN = pathsOf([...TEXTS, ...BOTH_RUNTIMES, ...BESIDE, ...(isEachOnBoth ? [] : STORIES_ON_BUN)]);
const ON_NODE = pathsOf(isEachOnBoth ? [] : STORIES_ON_NODE);
const patient = pathsOf(PATIENT);
const longest = pathsOf(LONGEST);
const rank = (file: string) => (longest.includes(file) ? longest.indexOf(file) : longest.length);
const ordered = wanted.toSorted((a, b) => rank(a) - rank(b));

/**
 * A file waits for servers and for processes much of its time: it uses a third of a core. So more files run at the same time than there
 * are cores. With more than these the cores do no more work, and deadlines pass.
 */
const FILES_AT_ONCE = Math.ceil(2.5 * availableParallelism());
const onBun = (file: string): Step => ({
  name: `${file} on Bun`,
  isPatient: patient.includes(file),
  command: [bin("bun"), "test", "--timeout", String(TEST_MS), `./${file}`],
  count: fromBun,
  failures: bunFailures,
});
/** Without `--test`, which would start a process that starts one for the file: a tenth of a second of the processor for each. */
const onNode = (file: string): Step => ({
  name: `${file} on Node 24`,
  isPatient: patient.includes(file),
  command: ["node_modules/node/bin/node", "--test-reporter=spec", `--test-timeout=${TEST_MS}`, file],
  count: fromNode,
  failures: nodeFailures,
});
const toBunSteps = (file: string) => (ON_NODE.includes(file) ? [] : [onBun(file)]);
const toNodeSteps = (file: string) => (ON_BUN.includes(file) ? [] : [onNode(file)]);
const bunSuite = ordered.flatMap(toBunSteps);
const nodeSuite = ordered.flatMap(toNodeSteps);
const bothSuites = ordered.flatMap((file) => [...toBunSteps(file), ...toNodeSteps(file)]);
const denoSuite: Step = {
  name: "smoke test on Deno",
  command: [bin("deno"), "test", "-A", "--no-check", "tests/smoke.test.ts"],
  count: fromDeno,
  failures: denoFailures,
};
const only = process.argv.find((word) => word.startsWith("--only="))?.slice("--only=".length);
const named: Record<string, Step[][]> = {
  check: [checks],
  bun: [bunSuite],
  node: [nodeSuite],
  deno: [[denoSuite]],
};
/** These files use no servers, so they run while servers are installed, which takes minutes on a new machine. */
const isWithoutServers = ({ name }: Step) => /^tests\/(expressions|mime|slow-readers)/.test(name);
/** Lists of steps, one list after the other. Of one list `FILES_AT_ONCE` steps run at the same time. */
const suites = [...bothSuites.filter((step) => !isWithoutServers(step)), denoSuite];
const all = [[...backends, ...checks, ...bothSuites.filter(isWithoutServers)], suites];
const plan = only ? (named[only] ?? []) : chosen.length > 0 ? [backends, bothSuites] : all;

/** What the tests start as the service, and the image too. */
const SERVICE_DIR = `${root}dist`;
/** For all steps. Node keeps what it compiled: a process of the service starts in half the time. */
const environment: Record<string, string> = {
  SERVICE_DIR,
  NODE_COMPILE_CACHE: `${root}node_modules/.cache/node-compile`,
};

/** One RabbitMQ for all files: each takes seconds to start. Returns what ends it. */
async function startSharedBroker(): Promise<() => Promise<void>> {
  const broker = await provide("rabbitmq");
  if (!broker || broker.how === "environment") return async () => undefined;
  environment["RABBITMQ_URL"] = broker.server.url;
  environment["RABBITMQ_MANAGEMENT_PORT"] = String(broker.server.managementPort);
  return broker.server.remove;
}

/** Of every failure so far, in which step it was and what was said of it. */
const failed: string[] = [];
/** Files that failed beside others. Each is run once more alone: what fails only under load is reported apart, and never hidden. */
const again: { step: Step; counts: Counts; said: string[] }[] = [];
/** With more failures than this no second run could make the result trustworthy. */
const MOST_AGAIN = 4;
const unsteady: string[] = [];
const seconds: { name: string; seconds: number }[] = [];

/** Runs one step. What it prints is shown at once, or as a whole at its end when others run beside it. */
function perform(step: Step, aside: boolean): Promise<Counts> {
  const { name, command, count, failures } = step;
  const began = performance.now();
  if (!aside) console.log(`\n== ${name}`);
  const [program = "", ...args] = command;
  const child = spawn(program, args, {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...environment, NO_COLOR: "1", FORCE_COLOR: undefined },
    // After a failure something may stay open that keeps the process alive.
    timeout: STEP_MS,
    killSignal: "SIGKILL",
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
      if (counts.passed + counts.failed + counts.skipped === 0)
        Object.assign(counts, code === 0 && count === fromExit ? { passed: 1 } : { failed: 1 });
      else if (code !== 0 && counts.failed === 0) counts.failed = 1;
      if (counts.failed > 0) {
        // With any other code than 1 it broke down: what it said last may tell why.
        const found = new Set([...failures(output), ...(code === 1 ? [] : lastLines(output))]);
        const said = [...(found.size > 0 ? found : lastLines(output))].map((failure) => `== ${name}\n${failure}\n`);
        if (aside) again.push({ step, counts, said });
        else failed.push(...said);
      }
      const took = Math.round((performance.now() - began) / 100) / 10;
      if (aside) seconds.push({ name, seconds: took });
      console.log(`== ${name}: ${code === 0 ? "ok" : `failed (exit ${code})`}, ${took.toFixed(1)} s`);
      resolve(counts);
    });
  });
}

const total: Counts = { passed: 0, failed: 0, skipped: 0 };

/** Performs steps until none is left. */
async function performAll(take: () => Step | undefined, aside: boolean): Promise<void> {
  for (let step = take(); step; step = take()) {
    const counts = await perform(step, aside);
    total.passed += counts.passed;
    total.failed += counts.failed;
    total.skipped += counts.skipped;
  }
}

/** Runs the files that failed beside others once more, alone. */
async function performAgain(): Promise<void> {
  const few = again.length <= MOST_AGAIN;
  for (const { step, counts, said } of again.splice(0)) {
    const second = few ? await perform({ ...step, name: `${step.name}, again alone` }, false) : counts;
    if (second.failed > 0) failed.push(...said);
    else {
      for (const key of ["passed", "failed", "skipped"] as const) total[key] += second[key] - counts[key];
      unsteady.push(...said);
    }
  }
}

const began = performance.now();
if (only !== "check") await bundleService(SERVICE_DIR);
for (const steps of plan) {
  const endBroker = steps === suites ? await startSharedBroker() : undefined;
  const waiting = steps.filter(({ isPatient }) => !isPatient);
  const patientSteps = steps.filter(({ isPatient }) => isPatient);
  // Every other place takes the shortest: the heaviest files do not all run at the same time, nor is one of them the last.
  const takeNext = (place: number) => () => (place % 2 === 0 ? waiting.shift() : waiting.pop());
  const places = Array.from({ length: FILES_AT_ONCE }, (_, place) => performAll(takeNext(place), steps.length > 1));
  await Promise.all([...places, performAll(() => patientSteps.shift(), steps.length > 1)]);
  await performAgain();
  await endBroker?.();
}
if (seconds.length > 0) {
  const sum = seconds.reduce((before, one) => before + one.seconds, 0);
  console.log(`\n${Math.round((performance.now() - began) / 1000)} s in all; their steps took ${Math.round(sum)} s:`);
  for (const one of seconds.toSorted((a, b) => b.seconds - a.seconds))
    console.log(`${one.seconds.toFixed(1)} s  ${one.name}`);
}
if (unsteady.length > 0) console.log(`\nFailed beside others, passed alone\n\n${unsteady.join("\n")}`);
// At the very end, because often only the end of a long log is kept.
if (failed.length > 0) console.log(`\nFailures\n\n${failed.join("\n")}`);
console.log(`\n${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ""}`);
process.exitCode = total.failed > 0 || plan.length === 0 ? 1 : 0;
