/** A test message for the endpoint of a mailbox: one POST, signed as every other. No circuit breaker counts it. */
import { randomBytes } from "node:crypto";
import { semaphore } from "../shared/concurrency/semaphore.ts";
import type { TestPostReport } from "../shared/contract/endpoint.ts";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import { clock } from "../shared/time.ts";
import type { PostOutcome, WireRequest } from "./endpoint/endpoint.ts";
import { signRequest } from "./endpoint/webhook.ts";

type TestPostDeps = {
  post: (request: WireRequest, signal: AbortSignal) => Promise<PostOutcome>;
  /** Whether the report has what the endpoint said. */
  showWords: boolean;
};

/** So many test messages of one node are on their way at once. */
const AT_ONCE = 4;
const WAIT_MS = 10_000;
const LONGEST_WORDS = 200;

/** Ends by the deadline of a delivery. Rejects with `timeout` if too many tests run, or with the signal's reason. */
export function testPoster({ post, showWords }: TestPostDeps) {
  const places = semaphore(AT_ONCE);
  const late = () => new Problem("timeout", `${AT_ONCE} other test messages are on their way to slow endpoints`);
  return async (mailbox: Mailbox, signal: AbortSignal): Promise<TestPostReport> => {
    using _ = await places.acquire({ ms: WAIT_MS, late }, signal);
    const id = `test_${randomBytes(12).toString("hex")}`;
    const now = new Date(clock.now());
    const data = { mailbox: { id: mailbox.id, address: mailbox.address } };
    const body = JSON.stringify({ type: "endpoint.test", timestamp: now.toISOString(), data });
    const content = { id, contentType: "application/json", headers: {}, body };
    const outcome = await post(await signRequest(mailbox, content, now), signal);
    const { status } = outcome;
    const ms = Math.round(outcome.ms);
    if (outcome.kind === "accepted") return { id, ok: true, status, ms, reason: null, words: null };
    const words = showWords ? (outcome.words?.slice(0, LONGEST_WORDS) ?? null) : null;
    return { id, ok: false, status, ms, reason: outcome.reason, words };
  };
}
