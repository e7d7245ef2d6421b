/** Short calls to a CRM on behalf of somebody who waits for the answer; nothing is tried again. */
import { probe } from "./endpoint/creatio/callbacks.ts";
import type { PostOutcome, WireRequest } from "./endpoint/endpoint.ts";

type Deps = { post: (request: WireRequest, signal: AbortSignal) => Promise<PostOutcome> };

export type CrmCalls = ReturnType<typeof crmCalls>;

/** Calls that end by the post's own deadline and reject only with the signal's reason. */
export function crmCalls({ post }: Deps) {
  const call = async (request: WireRequest, signal: AbortSignal) => {
    const outcome = await post(request, signal);
    return outcome.kind === "accepted" ? { ok: true, reason: "" } : { ok: false, reason: outcome.reason };
  };
  return {
    probe: (endpoint: string, signal: AbortSignal) => call(probe(endpoint), signal),
  };
}
