/** The answers that faults make, alike at each of the servers. */
import { type Answer, errorBody, type RequestIds } from "./answers.ts";
import type { Fault } from "./faults.ts";
import { tokenError } from "./login/token-errors.ts";

/** Nothing goes out. */
const NONE: Answer = { status: 0 };

/** What is answered in place of the work; undefined when the work is to be done. */
export function answerOf(fault: Fault | undefined, ids: RequestIds): Answer | undefined {
  if (!fault || "delayMs" in fault || "after" in fault || "pieceBytes" in fault) return undefined;
  if ("hang" in fault) return NONE;
  if ("cut" in fault) return fault.cut === "before" ? NONE : undefined;
  if ("aadsts" in fault) {
    const answer = tokenError(fault.aadsts);
    return { ...answer, status: fault.status ?? answer.status, headers: retryHeader(fault.retryAfter) };
  }
  const { status, retryAfter } = fault;
  const headers = { ...fault.headers, ...retryHeader(retryAfter) };
  if ("body" in fault) return { status, headers, bytes: Buffer.from(fault.body) };
  return { status, headers, json: errorBody(fault.code, fault.message ?? fault.code, ids, fault.inner) };
}

function retryHeader(retryAfter: string | undefined): Record<string, string> {
  return retryAfter === undefined ? {} : { "Retry-After": retryAfter };
}
