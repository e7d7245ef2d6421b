/** Who may call the CRM's operations. A CRM cannot send a bearer token, so where it calls from, or what it calls, has to do. */
import { createHash, timingSafeEqual } from "node:crypto";
import ipaddr from "ipaddr.js";
import type { Config } from "../../../shared/config.ts";
import type { ListenersAccess } from "../../../shared/settings.ts";
import { Problem } from "../../../shared/contract/problem.ts";
import type { Gate } from "../../http/auth.ts";

/** A request to one of the CRM's operations. `peer` is the address of the other end of the connection. */
export type Visit = { request: Request; segment: string | undefined; peer: string };

/**
 * The check of LISTENERS_ACCESS: the problem of a request that may not pass. Whoever has a token of the API may. Without the
 * setting it is closed in production, and elsewhere open to programs on this machine, as the API is without tokens.
 */
export function listenersGate(
  config: Pick<Config, "LISTENERS_ACCESS" | "NODE_ENV" | "API_TOKENS">,
  api: Gate,
): (visit: Visit) => Problem | undefined {
  const rules = config.LISTENERS_ACCESS;
  return (visit) => {
    if (config.API_TOKENS.length > 0 && api(visit.request) === undefined) return undefined;
    if (rules.length > 0) return rules.map((rule) => CHECKS[rule.kind](rule, visit)).find((problem) => problem);
    if (config.NODE_ENV === "production") return refused("LISTENERS_ACCESS is not set, so no CRM may call.");
    if (!isLoopback(visit.peer)) return refused("Without LISTENERS_ACCESS only programs on this machine may call.");
    return config.API_TOKENS.length === 0 ? api(visit.request) : undefined;
  };
}

type Check = (rule: ListenersAccess, visit: Visit) => Problem | undefined;

const CHECKS: Record<ListenersAccess["kind"], Check> = {
  closed: () => refused("LISTENERS_ACCESS is closed."),
  open: () => undefined,
  path: (rule, { segment }) =>
    rule.kind === "path" && segment !== undefined && same(segment, rule.segment.reveal())
      ? undefined
      : refused("The path does not hold the segment that LISTENERS_ACCESS asks for."),
  basic: (rule, { request }) => {
    const given = /^Basic +([A-Za-z0-9+/=]+)$/i.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
    const wanted = rule.kind === "basic" ? `${rule.user}:${rule.password.reveal()}` : "";
    if (wanted !== "" && same(Buffer.from(given, "base64").toString(), wanted)) return undefined;
    return new Problem("unauthorized", "The user and password of LISTENERS_ACCESS are needed.", { retry: "never" });
  },
  networks: (rule, { peer }) =>
    rule.kind === "networks" && rule.cidrs.some((cidr) => contains(cidr, peer))
      ? undefined
      : refused("The caller's address is in none of the networks of LISTENERS_ACCESS."),
};

function refused(why: string): Problem {
  return new Problem("forbidden", why, { retry: "never" });
}

/** Compared by digest, so that the time taken tells nothing. */
function same(given: string, wanted: string): boolean {
  return timingSafeEqual(digest(given), digest(wanted));
}

function digest(words: string): Buffer {
  return createHash("sha256").update(words).digest();
}

function contains(cidr: string, peer: string): boolean {
  if (!ipaddr.isValid(peer)) return false;
  const address = ipaddr.process(peer);
  const [network, bits] = ipaddr.parseCIDR(cidr);
  return address.kind() === network.kind() && address.match(network, bits);
}

function isLoopback(peer: string): boolean {
  return ipaddr.isValid(peer) && ipaddr.process(peer).range() === "loopback";
}
