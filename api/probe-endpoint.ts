/** Trying out the endpoint of a mailbox: reached and, over TLS, trusted. No message is posted. */
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../shared/contract/problem.ts";
import type { Egress } from "../shared/egress.ts";
import { askHead } from "../shared/endpoint-head.ts";
import type { PreflightStep } from "../shared/mail/mail.ts";
import { withTimeout } from "../shared/time.ts";

const STEP_MS = 10_000;

/**
 * Connects as a delivery would and asks for the headers of `deliver.url`. Any HTTP status is an answer, because many endpoints know
 * only POST. 410 says that deliveries will be given up. Throws only when the signal aborts.
 */
export async function probeEndpoint(
  { egress }: { egress: Egress },
  { deliver }: Mailbox,
  signal: AbortSignal,
): Promise<PreflightStep> {
  const startedAt = performance.now();
  const elapsedMs = () => Math.round(performance.now() - startedAt);
  const url = new URL(deliver.url);
  try {
    const asked = askHead(egress, url, STEP_MS, signal);
    const { status } = await withTimeout(STEP_MS, `${url.host}: the answer`, asked, signal);
    if (status === 410) throw new Problem("endpoint_gone", `${url.host} answers 410 Gone: nothing would be delivered`);
    return { name: "deliver", ok: true, ms: elapsedMs(), detail: `${url.host} answers HEAD with HTTP ${status}` };
  } catch (error) {
    signal.throwIfAborted();
    const { message, fix, evidence } = asProblem(error);
    const where = message.includes(url.hostname) ? message : `${url.host}: ${message}`;
    const step = { name: "deliver", ok: false, ms: elapsedMs(), cause: where, fix } as const;
    return evidence === null ? step : { ...step, detail: evidence };
  }
}
