/**
 * Works on bulk actions in the background. One node holds each. When that node ends or dies, another node goes on where it was, or
 * the same one after its next start.
 */
import type { Config } from "../../shared/config.ts";
import { childSignal } from "../../shared/concurrency/abort.ts";
import type { Wakeup } from "../../shared/concurrency/wakeup.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Actor } from "../../shared/contract/token.ts";
import type { Part } from "../../shared/run.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { clock, sleep } from "../../shared/time.ts";
import { untilRevoked } from "../http/auth.ts";
import { scopedStore } from "../scoped-store.ts";
import { type BulkJob, type BulkProgress, listJobs, updateJob } from "./book.ts";
import { type Outcome, type Progress, progressOf } from "./progress.ts";
import { problemOf, requestFor } from "./requests.ts";
import { countTargets, findTargets, type Target, type TargetDeps } from "./targets.ts";

export type BulkRunnerDeps = {
  store: Store;
  config: Config;
  facts: { emit: Emit };
  /** Names this node. */
  probes: { name: string };
  /** Triggered when a job begins here. */
  wake: Wakeup;
  /** Answers a request to the API as if this actor had made it. */
  callApi(actor: Actor, request: Request): Promise<Response>;
};

/** How often a node looks for jobs that nobody works on. Multiplied by BACKOFF_SCALE. */
const LOOK_MS = 10_000;
const LOCK_MS = 500;
const SAVE_MS = 1_000;
/** One job begins at most 50 calls in a second, so that the work of others goes on beside it. */
const INTERVAL_MS = 20;
/** So many calls of one job run at once. Those that talk to mail servers take longer, and are fewer. */
const AT_ONCE: Record<BulkJob["action"], number> = { pause: 8, resume: 8, replay: 8, test: 4, resync: 4 };
/** So many may be done behind one that takes long. After a crash they are done again. */
const WINDOW = 100;

export function bulkRunner(deps: BulkRunnerDeps): Part {
  const working = new Map<string, Promise<void>>();
  const look = async (signal: AbortSignal) => {
    for (const { id, state } of await listJobs(deps.store)) {
      if (state !== "running" || working.has(id)) continue;
      working.set(
        id,
        holdJob(deps, id, signal).finally(() => working.delete(id)),
      );
    }
  };
  return {
    name: "bulk actions",
    async run(signal) {
      do await look(signal).catch((error: unknown) => report(deps, error, signal));
      while ((await deps.wake.wait(deps.config.BACKOFF_SCALE * LOOK_MS, signal)) !== "aborted");
      await Promise.all(working.values());
    },
  };
}

/** Works on a job unless another node does. Never rejects. */
async function holdJob(deps: BulkRunnerDeps, id: string, signal: AbortSignal): Promise<void> {
  const limits = { waitMs: LOCK_MS, what: "The bulk action" };
  try {
    await deps.store.locks.hold(`bulk ${id}`, limits, (held) => runJob(deps, id, held), signal);
  } catch (error) {
    // Another node works on it.
    if (asProblem(error).code !== "timeout") report(deps, error, signal);
  }
}

function report({ facts }: BulkRunnerDeps, error: unknown, signal: AbortSignal): void {
  if (signal.aborted) return;
  const { code, message } = asProblem(error);
  facts.emit({ kind: "service.failed", what: "a bulk action", failure: { code, cause: message } });
}

type Ending = Pick<BulkProgress, "state" | "cause">;
type Finish = (ending: Ending) => void;

const STOPPED: Ending = { state: "stopped", cause: null };
const REVOKED: Ending = { state: "failed", cause: "The token that began it is no longer valid." };

/** Works until the job has ended. If the signal aborts before, or the store fails, the job goes on elsewhere or later. */
async function runJob(deps: BulkRunnerDeps, id: string, signal: AbortSignal): Promise<void> {
  const job = await updateJob(deps.store, id, () => ({ node: deps.probes.name }));
  if (job?.state !== "running") return;
  const over = new AbortController();
  using work = childSignal(signal, over.signal);
  const endings: Ending[] = [];
  const finish: Finish = (ending) => {
    endings.push(ending);
    over.abort();
  };
  const progress = progressOf(deps.store, job);
  const watching = Promise.all([
    saveEverySecond(progress, finish, work.signal),
    untilRevoked(deps.store, job.actor, work.signal).then(() => work.signal.aborted || finish(REVOKED)),
  ]);
  // A failed save ends the work, and rejects below.
  watching.catch(() => over.abort());
  try {
    if (job.stopRequested) finish(STOPPED);
    await workThrough(deps, job, progress, work.signal);
    if (!work.signal.aborted) finish({ state: "done", cause: null });
  } finally {
    over.abort();
    await watching;
  }
  const [ending] = endings;
  await progress.save(ending && { ...ending, endedAt: new Date(clock.now()).toISOString() });
}

async function saveEverySecond(progress: Progress, finish: Finish, signal: AbortSignal): Promise<void> {
  while (await sleep(SAVE_MS, signal)) {
    const stored = await progress.save();
    if (stored?.stopRequested !== false) return finish(STOPPED);
  }
}

/** Calls the API for each target. Resolves when all are done, or soon after the signal aborts. */
async function workThrough(deps: BulkRunnerDeps, job: BulkJob, progress: Progress, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { mailboxPrefix } = job.actor;
  const store = mailboxPrefix === "" ? deps.store : scopedStore(deps.store, mailboxPrefix);
  const seen: TargetDeps = { config: deps.config, store };
  progress.setRemaining(await countTargets(seen, job, job.after, signal));
  const calls = new Set<Promise<void>>();
  try {
    for await (const target of findTargets(seen, job, job.after)) {
      while (calls.size >= AT_ONCE[job.action] || progress.pending() >= WINDOW) await Promise.race(calls);
      if (!(await sleep(INTERVAL_MS, signal))) break;
      const settle = progress.begin(target);
      const call = callOnce(deps, job, target, signal)
        .then((outcome) => signal.aborted || settle(outcome))
        .finally(() => calls.delete(call))
        .then(() => undefined);
      calls.add(call);
    }
  } finally {
    await Promise.all(calls);
  }
}

/** Never rejects. The entries of a job in the audit are counted apart, so that they push out no others of its token. */
async function callOnce(
  { config, callApi }: BulkRunnerDeps,
  job: BulkJob,
  { id }: Target,
  signal: AbortSignal,
): Promise<Outcome> {
  const { actor } = job;
  const caller = { ...actor, id: `${actor.id}:bulk`, name: `${actor.name}, ${job.id}` };
  try {
    return await problemOf(await callApi(caller, requestFor(job, id, config.BASE_PATH, signal)));
  } catch (error) {
    return asProblem(error).message;
  }
}
