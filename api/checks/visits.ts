/** One connection to each endpoint's server, a few at a time and not for long. */
import { asProblem } from "../../shared/contract/problem.ts";
import type { Egress } from "../../shared/egress.ts";
import { semaphore } from "../../shared/concurrency/semaphore.ts";
import { clock, withTimeout } from "../../shared/time.ts";
import { askHead } from "../../shared/endpoint-head.ts";
import type { Origin } from "./survey.ts";

/** `offsetMs` is how far its clock is ahead, to about a second. Null: unknown. `cause` is null if it answered. */
export type Visit = Origin & {
  ms: number;
  status: number | null;
  offsetMs: number | null;
  certificateUntil: Date | null;
  cause: string | null;
  fix: string | null;
};
/** `untried` counts the servers for which there was no time or which were too many. */
export type Visits = { visits: Visit[]; untried: number };

const [MAX_ORIGINS, AT_ONCE] = [60, 16];
const [EACH_MS, ALL_MS] = [5_000, 22_000];

/** Asks each server for its head. Those with the most mailboxes come first. Ends within 27 seconds. */
export async function visitOrigins(egress: Egress, origins: readonly Origin[], signal: AbortSignal): Promise<Visits> {
  const chosen = origins.toSorted((a, b) => b.mailboxes - a.mailboxes).slice(0, MAX_ORIGINS);
  const until = performance.now() + ALL_MS;
  const places = semaphore(AT_ONCE);
  const visited = await Promise.all(
    chosen.map(async (origin) => {
      using _ = await places.acquire({}, signal);
      return performance.now() > until ? undefined : visit(egress, origin, signal);
    }),
  );
  const visits = visited.filter((one) => one !== undefined);
  return { visits, untried: origins.length - visits.length };
}

async function visit(egress: Egress, origin: Origin, signal: AbortSignal): Promise<Visit> {
  const startedAt = performance.now();
  const url = new URL("/", origin.origin);
  const nothing = { status: null, offsetMs: null, certificateUntil: null, cause: null, fix: null };
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(EACH_MS)]);
  try {
    const asked = askHead(egress, url, EACH_MS, deadline);
    const { status, date, certificateUntil } = await withTimeout(EACH_MS, `The answer of ${url.host}`, asked, signal);
    const ms = Math.round(performance.now() - startedAt);
    const offsetMs = date && Math.round(date.getTime() - (clock.now() - ms / 2));
    return { ...origin, ...nothing, ms, status, offsetMs, certificateUntil };
  } catch (error) {
    signal.throwIfAborted();
    const { message, fix } = asProblem(error);
    return { ...origin, ...nothing, ms: Math.round(performance.now() - startedAt), cause: message, fix };
  }
}
