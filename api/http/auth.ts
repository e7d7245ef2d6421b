/** Who may call: bearer tokens, or without any only this machine's own programs. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { Secret } from "../../shared/contract/secret.ts";
import { Problem } from "../../shared/contract/problem.ts";

/** The problem with a request's credentials, or undefined when it may pass. */
export type Gate = (request: Request) => Problem | undefined;

const digest = (text: string) => createHash("sha256").update(text).digest();

/**
 * With tokens: one of them as `Authorization: Bearer` (RFC 6750), compared by digest in constant time. Without: the service
 * listens on loopback only, and a browser must not become the way in, so the Host has to be loopback (no DNS rebinding)
 * and an Origin, if there is one, the same.
 */
export function gate(tokens: readonly Secret[]): Gate {
  const digests = tokens.map((token) => digest(token.reveal()));
  if (digests.length === 0) return loopbackOnly;
  return (request) => {
    const given = /^Bearer +([^\s]+)\s*$/i.exec(request.headers.get("authorization") ?? "")?.[1];
    if (given === undefined) return refused("There is no bearer token in the request.");
    const sent = digest(given);
    // Every token is compared, so that the time taken tells nothing about which one came near.
    const matches = digests.filter((known) => timingSafeEqual(known, sent)).length;
    return matches > 0 ? undefined : refused("The bearer token is not one of this service's.");
  };
}

function refused(why: string): Problem {
  return new Problem("unauthorized", why, { retry: "never" });
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/i;

function loopbackOnly(request: Request): Problem | undefined {
  const url = new URL(request.url);
  const origin = request.headers.get("origin");
  const foreign = origin !== null && origin !== "null" && !sameHost(origin, url);
  if (LOOPBACK.test(url.hostname) && !foreign && origin !== "null") return undefined;
  const why = "Without API_TOKENS the service answers only to 127.0.0.1 or localhost, and to no other site's pages.";
  return new Problem("forbidden", why, { retry: "never" });
}

function sameHost(origin: string, url: URL): boolean {
  return URL.canParse(origin) && new URL(origin).host === url.host;
}
