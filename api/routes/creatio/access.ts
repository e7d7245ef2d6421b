/**
 * Who may call the CRM's operations. A CRM cannot send a bearer token, so its address, a part of the path, or basic
 * credentials decide.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { Config } from "../../../shared/config.ts";
import type { CrmAccess } from "../../../shared/setting-schemas.ts";
import { Problem } from "../../../shared/contract/problem.ts";
import type { Actor } from "../../../shared/contract/token.ts";
import { type Authenticate, bearerOf, requireScope } from "../../http/auth.ts";
import { type Client, isInNetwork, isLoopback } from "../../http/client.ts";
import type { GuessLimiter } from "../../http/guesses.ts";

/** A request to one of the CRM's operations. */
export type AccessRequest = { request: Request; segment: string | undefined; client: Client };

/** Who calls: the holder of a token, or a CRM. */
export type CrmActor = Pick<Actor, "id" | "name">;
const CRM: CrmActor = { id: "crm", name: "CRM" };

/** How callers are known: by a token of the API, and by how often their address was wrong. */
export type CrmAccessDeps = { authenticate: Authenticate; guesses: GuessLimiter };

/**
 * Checks CRM_ACCESS and throws the problem of a request that may not pass. A caller with a token of the scope `admin`
 * may always pass. Without the setting nobody else may call; only if the service has no tokens, programs on this machine
 * may. Wrong credentials count as guesses of their address.
 */
export function crmAccessCheck(
  config: Pick<Config, "CRM_ACCESS" | "NODE_ENV" | "API_TOKENS">,
  { authenticate, guesses }: CrmAccessDeps,
): (access: AccessRequest) => Promise<CrmActor> {
  const rules = config.CRM_ACCESS;
  return async (access) => {
    const { request, client } = access;
    const withToken = bearerOf(request.headers.get("authorization")) !== undefined;
    if (withToken) return requireScope(await authenticate(request, client.address), "admin");
    if (rules.length > 0) {
      await checkRules(rules, access, guesses);
      return CRM;
    }
    if (config.NODE_ENV === "production") throw forbiddenProblem("CRM_ACCESS is not set, so no CRM may call.");
    if (config.API_TOKENS.length === 0 && !(client.isCertain && isLoopback(client.address)))
      throw forbiddenProblem("Without CRM_ACCESS only programs on this machine may call.");
    requireScope(await authenticate(request, client.address), "admin");
    return CRM;
  };
}

async function checkRules(rules: readonly CrmAccess[], access: AccessRequest, guesses: GuessLimiter): Promise<void> {
  const {
    request,
    client: { address },
    segment,
  } = access;
  const guess = rules.some(({ kind }) => (kind === "basic" && basicOf(request)) || (kind === "path" && segment));
  if (guess) guesses.check(address);
  const failed = rules
    .map((rule) => ({ rule, problem: CHECKS[rule.kind](rule, access) }))
    .filter(({ problem }) => problem);
  if (guess && failed.some(({ rule }) => rule.kind === "basic" || rule.kind === "path"))
    await guesses.refuse(address, request.signal);
  for (const { problem } of failed) if (problem) throw problem;
}

type Check = (rule: CrmAccess, visit: AccessRequest) => Problem | undefined;

const CHECKS: Record<CrmAccess["kind"], Check> = {
  closed: () => forbiddenProblem("CRM_ACCESS is closed."),
  open: () => undefined,
  path: (rule, { segment }) =>
    rule.kind === "path" && segment !== undefined && equalInConstantTime(segment, rule.segment.reveal())
      ? undefined
      : forbiddenProblem("The path does not hold the segment that CRM_ACCESS asks for."),
  basic: (rule, { request }) => {
    const given = basicOf(request) ?? "";
    const wanted = rule.kind === "basic" ? `${rule.user}:${rule.password.reveal()}` : "";
    if (wanted !== "" && equalInConstantTime(Buffer.from(given, "base64").toString(), wanted)) return undefined;
    return new Problem("unauthorized", "The user and password of CRM_ACCESS are needed.", { retry: "never" });
  },
  networks: (rule, { client: { address, isCertain } }) => {
    if (!isCertain)
      return forbiddenProblem(
        "The request came through a proxy that TRUSTED_PROXIES does not name, so nobody knows its caller.",
      );
    if (rule.kind === "networks" && rule.cidrs.some((cidr) => isInNetwork(address, cidr))) return undefined;
    return forbiddenProblem("The caller's address is in none of the networks of CRM_ACCESS.");
  },
};

/** The base64 of basic credentials; undefined if the request has none. */
function basicOf(request: Request): string | undefined {
  return /^Basic +([A-Za-z0-9+/=]+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
}

function forbiddenProblem(why: string): Problem {
  return new Problem("forbidden", why, { retry: "never" });
}

/** Compares digests, so that the time shows nothing. */
function equalInConstantTime(given: string, wanted: string): boolean {
  return timingSafeEqual(digest(given), digest(wanted));
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
