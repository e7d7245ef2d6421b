/** Runs checks, each with a deadline, and remembers what each found last on this node. */
import { unlessAborted } from "../../shared/concurrency/abort.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import { clock } from "../../shared/time.ts";
import { addressCheck } from "./address.ts";
import {
  type Check,
  type CheckCall,
  type CheckDeps,
  CheckName,
  type CheckOptions,
  type CheckResult,
  failedBy,
  type Finding,
} from "./check.ts";
import { mailboxCheck, subscriptionsCheck } from "./mailboxes.ts";
import { diskCheck, keysCheck, nodesCheck, parkedCheck, settingsCheck, sqliteCheck } from "./node.ts";
import { clockCheck, endpointsCheck, rabbitmqCheck, redisCheck } from "./servers.ts";
import { surveyMailboxes } from "./survey.ts";
import { testMailCheck } from "./test-mail.ts";
import { expiryCheck } from "./upcoming.ts";
import { visitOrigins } from "./visits.ts";

const CHECKS: Record<CheckName, Check> = {
  settings: settingsCheck,
  keys: keysCheck,
  nodes: nodesCheck,
  redis: redisCheck,
  rabbitmq: rabbitmqCheck,
  sqlite: sqliteCheck,
  disk: diskCheck,
  subscriptions: subscriptionsCheck,
  address: addressCheck,
  endpoints: endpointsCheck,
  clock: clockCheck,
  parked: parkedCheck,
  expiry: expiryCheck,
  mailbox: mailboxCheck,
  testMail: testMailCheck,
};

/** The checks that are run if nobody names some. */
export const GENERAL_CHECKS = CheckName.options.filter((name) => name !== "mailbox" && name !== "testMail");

export interface CheckRunner {
  /** Every check with its last result on this node. */
  list(): CheckResult[];
  /** Runs these checks at the same time, and lists them in the order of CheckName. A check that another caller runs just now is not run twice. */
  run(names: readonly CheckName[], options: CheckOptions): Promise<CheckResult[]>;
}

/** `stop` ends all checks. A caller who goes away ends none, because others may wait for the same. */
export function checkRunner(deps: CheckDeps, stop: AbortSignal): CheckRunner {
  const last = new Map<CheckName, CheckResult>();
  const running = new Map<string, Promise<CheckResult>>();

  const start = (name: CheckName, call: CheckCall): Promise<CheckResult> => {
    const key = JSON.stringify([name, call.address, call.mailbox?.mailbox.id]);
    const work =
      running.get(key) ??
      runCheck(name, call, stop)
        .then((result) => {
          last.set(name, result);
          return result;
        })
        .finally(() => running.delete(key));
    running.set(key, work);
    return work;
  };

  return {
    list: () => CheckName.options.map((name) => last.get(name) ?? toResult(name, NOT_YET, null)),
    run(names, options) {
      const call = openCall(deps, options, stop);
      return Promise.all(CheckName.options.filter((name) => names.includes(name)).map((name) => start(name, call)));
    },
  };
}

const NOT_YET: Finding = { status: "not_run", cause: "Nobody has run it on this node yet" };

function openCall(deps: CheckDeps, options: CheckOptions, stop: AbortSignal): CheckCall {
  const survey = once(() => surveyMailboxes(deps, stop));
  const visits = once(async () => visitOrigins(deps.probes.egress, (await survey()).origins, stop));
  return { ...options, deps, survey, visits };
}

function once<T>(work: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => (made ??= work());
}

async function runCheck(name: CheckName, call: CheckCall, stop: AbortSignal): Promise<CheckResult> {
  const { run, seconds } = CHECKS[name];
  const startedAt = performance.now();
  const at = new Date(clock.now()).toISOString();
  const deadline = AbortSignal.timeout(seconds * 1000);
  const signal = AbortSignal.any([stop, deadline]);
  const find = async () => run(call, signal);
  const finding = await unlessAborted(find(), signal).catch((error: unknown) => {
    stop.throwIfAborted();
    if (deadline.aborted) return failedBy(new Problem("timeout", `The check did not end within ${seconds} seconds`));
    return describeFailure(name, asProblem(error), call);
  });
  return toResult(name, finding, { at, ms: Math.round(performance.now() - startedAt) });
}

/** The words of an unexpected error may hold anything, so they are for the log only. */
function describeFailure(name: CheckName, problem: Problem, { deps }: CheckCall): Finding {
  if (problem.code !== "internal") return failedBy(problem);
  const failure = { code: problem.code, cause: problem.message };
  deps.facts.emit({ kind: "service.failed", what: `the check ${name}`, failure });
  const cause = "The check itself failed. The log of this node has the reason";
  return { status: "failed", cause, fix: problem.fix };
}

function toResult(name: CheckName, finding: Finding, ran: { at: string; ms: number } | null): CheckResult {
  const { title } = CHECKS[name];
  return { name, title, ...finding, warnings: finding.warnings ?? [], at: ran?.at ?? null, ms: ran?.ms ?? null };
}
