/** The webhook of an alarm: one POST, signed as Standard Webhooks says. Whoever calls tries again. */
import type { Config } from "../shared/config.ts";
import { splitLogin } from "../shared/contract/endpoint.ts";
import { Secret } from "../shared/contract/secret.ts";
import type { PostOutcome, WireRequest } from "./endpoint/endpoint.ts";
import { signRequest } from "./endpoint/webhook.ts";

type AlarmPostDeps = { post: (request: WireRequest, signal: AbortSignal) => Promise<PostOutcome> };
type AlarmRequest = { url: string; secret: Config["ALARM_SECRET"]; id: string; body: string };

/** Ends by the deadline of a delivery. Rejects only with the signal's reason. */
export function alarmPost({ post }: AlarmPostDeps) {
  return async ({ url: address, secret, id, body }: AlarmRequest, signal: AbortSignal) => {
    const { url, login } = splitLogin(address);
    const auth = login && { user: login.user, password: new Secret(login.password) };
    const content = { id, contentType: "application/json", headers: {}, body };
    const request = await signRequest({ deliver: { url, auth, secret } }, content, new Date());
    const outcome = await post(request, signal);
    return outcome.kind === "accepted" ? { ok: true, reason: "" } : { ok: false, reason: outcome.reason };
  };
}
