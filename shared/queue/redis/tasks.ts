/** The tasks in Redis as one process sees them: it adds them, claims them, renews the claims and finishes its own. */
import { Problem } from "../../contract/problem.ts";
import type { Task } from "../../contract/task.ts";
import type { RedisArgument, RedisConnection } from "../../store/redis/connection/client.ts";
import type { RedisScript } from "../../store/redis/connection/script.ts";
import { listOf, numberOf, textsOf } from "../../store/redis/connection/reply.ts";
import { clock } from "../../time.ts";
import type { TaskResult } from "../perform.ts";
import type { TaskDepth } from "../queue.ts";
import { OWN_WAIT_MS } from "../preference.ts";
import { parseTask } from "../stored-task.ts";
import * as scripts from "./scripts.ts";

/**
 * A task that only this process performs until the claim expires. `dueAt` is in ms since 1970; `attempts` counts the
 * tries so far.
 */
export type ClaimedTask = {
  id: string;
  claim: string;
  /** The mailbox. */
  lane: string;
  /** `json` is the stored text. `task` is a Problem if this version cannot read it. */
  json: string;
  task: Task | Problem;
  dueAt: number;
  attempts: number;
};

/** A task that was parked because its claims expired too often. */
export type PoisonedTask = Pick<ClaimedTask, "lane" | "task" | "attempts">;

/** `waitMs`: when to claim again if nothing wakes this process. Undefined if there is nothing to wait for. */
export type ClaimReply = { tasks: ClaimedTask[]; poisoned: PoisonedTask[]; waitMs: number | undefined };

/**
 * How many tasks, how many of one lane, and how many of each lane run in this process now. `own` is the name by which
 * tasks may prefer it.
 */
export type ClaimRequest = {
  wanted: number;
  perLane: number;
  running: ReadonlyMap<string, number>;
  own?: string | undefined;
};

export interface RedisTasks {
  /**
   * Resolves once Redis has the task. `notBefore` is in ms since 1970; 0 means at once. A task that is due waits a
   * moment for the process that it prefers.
   */
  add(task: Task, notBefore: number, preferred?: string): Promise<void>;
  /** Wakes all processes if a task is due that nobody has taken. */
  wakeForDue(): Promise<void>;
  /** Claims due tasks. A lane that runs here already gets only the rest of its share. */
  claim(request: ClaimRequest): Promise<ClaimReply>;
  /** Claims tasks that are not due, the next due first. */
  claimDelayed(wanted: number): Promise<ClaimReply>;
  /** Renews these claims for the same time. Returns those that were lost. */
  renew(held: readonly ClaimedTask[]): Promise<ClaimedTask[]>;
  /** Ends the claim with the outcome of the task. Does nothing if the claim was lost. */
  finish(held: ClaimedTask, result: TaskResult): Promise<void>;
  count(): Promise<Required<Pick<TaskDepth, "ready" | "delayed" | "running" | "parked">>>;
}

type RedisTasksDeps = {
  redis: RedisConnection;
  /** All keys of the queue begin with this. It contains one hash tag. */
  prefix: string;
  /** A claim that nobody renews expires after this time. */
  claimMs: number;
};

const MAX_REASON_LENGTH = 1_000;

export function redisTasks({ redis, prefix, claimMs }: RedisTasksDeps): RedisTasks {
  const run = (script: RedisScript, ...args: RedisArgument[]) => redis.run(script, prefix, args);
  return {
    async add(task, notBefore, preferred = "") {
      const lane = encodeURIComponent(task.mailbox);
      await run(scripts.ADD, notBefore, lane, JSON.stringify(task), preferred, OWN_WAIT_MS);
    },
    async wakeForDue() {
      await run(scripts.WAKE_FOR_DUE);
    },
    async claim({ wanted, perLane, running, own }) {
      const lanes = [...running].flatMap(([lane, count]) => [encodeURIComponent(lane), count]);
      return parseClaims(await run(scripts.CLAIM, wanted, perLane, claimMs, clock.now(), own ?? "", ...lanes));
    },
    claimDelayed: async (wanted) => parseClaims(await run(scripts.CLAIM_DELAYED, wanted, claimMs)),
    async renew(held) {
      const lost = listOf(await run(scripts.RENEW, claimMs, ...held.flatMap(({ id, claim }) => [id, claim])));
      const places = new Set(lost.map(numberOf));
      return held.filter((_, place) => places.has(place));
    },
    async finish({ id, claim }, result) {
      if (result.kind === "done") await run(scripts.REMOVE, id, claim);
      else if (result.kind === "released") await run(scripts.RELEASE, id, claim);
      else if (result.kind === "parked") {
        const reason = result.problem.message.slice(0, MAX_REASON_LENGTH);
        await run(scripts.PARK, id, claim, result.attempts, reason);
      } else {
        const json = result.task === undefined ? "" : JSON.stringify(result.task);
        await run(scripts.PUT_BACK, id, claim, result.at.getTime(), result.attempts, json);
      }
    },
    async count() {
      const [all, delayed, running, parked] = listOf(await run(scripts.COUNT)).map(numberOf) as number[];
      return toDepth(all, delayed, running, parked);
    },
  };
}

function toDepth(all = 0, delayed = 0, running = 0, parked = 0) {
  return { ready: Math.max(0, all - delayed - running), delayed, running, parked };
}

function parseClaims(reply: unknown): ClaimReply {
  const [claim, claimed, parked, wait] = listOf(reply);
  const waitMs = numberOf(wait);
  return {
    tasks: chunksOf(textsOf(claimed), 5).map(([id = "", dueAt, attempts, lane = "", json = ""]) => ({
      id,
      claim: String(claim),
      lane: decodeURIComponent(lane),
      json,
      task: parseTask(json),
      dueAt: Number(dueAt),
      attempts: Number(attempts),
    })),
    poisoned: chunksOf(textsOf(parked), 3).map(([attempts, lane = "", json = ""]) => ({
      attempts: Number(attempts),
      lane: decodeURIComponent(lane),
      task: parseTask(json),
    })),
    waitMs: waitMs < 0 ? undefined : waitMs,
  };
}

function chunksOf(flat: string[], size: number): string[][] {
  return Array.from({ length: flat.length / size }, (_, n) => flat.slice(n * size, (n + 1) * size));
}
