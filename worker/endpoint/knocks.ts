/**
 * Asks paused endpoints that were absent whether they are back, so that what waits for them need not wait for the end
 * of the pause. A HEAD request is cheap for both sides, and no program takes it for a delivery.
 */
import type { Egress } from "../../shared/egress.ts";
import { askHead } from "../../shared/endpoint-head.ts";
import { type Backoff, sleep, withTimeout } from "../../shared/time.ts";
import type { CircuitBreakers } from "./circuit-breaker.ts";
import { isAbsent } from "./outcome.ts";

type KnocksDeps = {
  circuitBreakers: Pick<CircuitBreakers, "listAbsent" | "endPause">;
  egress: Egress;
  backoff: Pick<Backoff, "rest">;
  /** Called when an absent endpoint at this origin has answered. */
  onReturned: (origin: string) => void;
};

/** The part of the shortest pause after which it knocks again. */
const PART_OF_PAUSE = 0.75;
const ANSWER_MS = 3_000;
/** How many origins are asked in one round. */
const MOST_ORIGINS = 50;

/** Knocks in rounds until the signal aborts. */
export async function knockAtAbsent(deps: KnocksDeps, signal: AbortSignal): Promise<void> {
  while (await sleep(PART_OF_PAUSE * deps.backoff.rest(1), signal)) {
    const origins = Map.groupBy(deps.circuitBreakers.listAbsent(), (url) => new URL(url).origin);
    const chosen = [...origins].toSorted(() => Math.random() - 0.5).slice(0, MOST_ORIGINS);
    await Promise.all(
      chosen.map(async ([origin, urls]) => {
        if (!(await hasReturned(deps, urls[0] ?? origin, signal))) return;
        for (const url of urls) deps.circuitBreakers.endPause(url);
        deps.onReturned(origin);
      }),
    );
  }
}

async function hasReturned({ egress }: KnocksDeps, url: string, signal: AbortSignal): Promise<boolean> {
  // The answer may stay away after the time is over. Then the connection ends with it.
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]);
  try {
    const asked = askHead(egress, new URL(url), ANSWER_MS, deadline);
    const { status } = await withTimeout(ANSWER_MS, "the answer to HEAD", asked, deadline);
    return !isAbsent({ status });
  } catch {
    // Whatever the fault is, the endpoint is not back, and its pause goes on as if nobody had asked.
    return false;
  }
}
