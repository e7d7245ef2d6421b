/** What a node knows about its broker, and whether it is able to do its work with it. */
import type { Problem } from "../contract/problem.ts";

/** One connection to the broker. `problem` is null while it works; `wasUp` says whether it has ever worked. */
export type BrokerLink = { problem: Problem | null; wasUp: boolean };
/** `taking` is null while the node takes no tasks. */
export type BrokerState = { sending: BrokerLink; taking: BrokerLink | null };

/**
 * Why this API node is not ready. Without the broker its tasks wait in Redis, so it works. But a broker that has refused it
 * since its start means a wrong setting, and the nodes with the old setting must not be replaced.
 */
export function findApiFault({ sending }: BrokerState): Problem | null {
  return sending.problem !== null && isRefusal(sending.problem) && !sending.wasUp ? sending.problem : null;
}

/**
 * Why this worker is not ready: it has never reached the broker, or the broker refuses it. While a broker is away that it
 * has reached before, it performs the tasks that wait in Redis.
 */
export function findWorkerFault({ sending, taking }: BrokerState): Problem | null {
  const { problem, wasUp } = taking ?? sending;
  return problem !== null && (isRefusal(problem) || !wasUp) ? problem : null;
}

/** A problem that names settings does not end by itself. */
function isRefusal({ code, errors }: Problem): boolean {
  return code === "config" || errors.length > 0;
}
