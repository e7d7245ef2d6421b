/** Short calls to a CRM for a request that waits for the answer. Nothing is tried again. */
import { probeRequest } from "./endpoint/creatio/callbacks.ts";
import type { PostOutcome, WireRequest } from "./endpoint/endpoint.ts";

type CrmCallsDeps = { post: (request: WireRequest, signal: AbortSignal) => Promise<PostOutcome> };

export type CrmCalls = ReturnType<typeof crmCalls>;

/** Calls that end by their own deadline. They reject only with the signal's reason. */
export function crmCalls({ post }: CrmCallsDeps) {
  const call = async (request: WireRequest, signal: AbortSignal) => {
    const outcome = await post(request, signal);
    return outcome.kind === "accepted" ? { ok: true, reason: "" } : { ok: false, reason: outcome.reason };
  };
  return {
    probe: (endpoint: string, signal: AbortSignal) => call(probeRequest(endpoint), signal),
  };
}
