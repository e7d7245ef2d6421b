/** Who calls: the holder of a bearer token, or without API_TOKENS a program on this machine. */
import { timingSafeEqual } from "node:crypto";
import type { Config } from "../../shared/config.ts";
import { untilAborted } from "../../shared/concurrency/abort.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import type { Secret } from "../../shared/contract/secret.ts";
import type { Actor, Token, TokenScope } from "../../shared/contract/token.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { clock, sleep } from "../../shared/time.ts";
import { isCrossSite, isForwarded } from "./client.ts";
import type { GuessLimiter } from "./guesses.ts";
import { digest, tokenIdOf } from "./token-form.ts";

/**
 * Returns who makes the request. `address` is the client's. Throws `unauthorized` without a valid token, `guesses` when
 * this address was wrong too often, `forbidden` for a request from elsewhere while there are no tokens.
 */
export type Authenticate = (request: Request, address: string) => Promise<Actor>;

type AuthDeps = {
  config: Pick<Config, "API_TOKENS" | "METRICS_TOKENS">;
  store: Pick<Store, "tokens">;
  guesses: GuessLimiter;
  emit: Emit;
};
type StaticToken = { digest: Buffer; actor: Actor };

/** A caller without a token while the service has none. It listens on loopback only then. */
const LOCAL: Actor = { id: "local", name: "a program on this machine", scopes: ["admin"], mailboxPrefix: "" };

/**
 * With tokens: one of them as `Authorization: Bearer` (RFC 6750). Without tokens the service listens on loopback only.
 * A web page in a browser must not be able to call it, so the Host must be loopback (against DNS rebinding), and an
 * Origin, if there is one, must be the same.
 */
export function authenticator({ config, store, guesses, emit }: AuthDeps): Authenticate {
  const fixed = [
    ...staticTokens("API_TOKENS", config.API_TOKENS, "admin"),
    ...staticTokens("METRICS_TOKENS", config.METRICS_TOKENS, "metrics"),
  ];
  return async (request, address) => {
    const header = request.headers.get("authorization");
    if (config.API_TOKENS.length === 0) {
      const problem = loopbackOnly(request);
      if (problem) throw problem;
      if (header === null) return LOCAL;
    }
    const given = bearerOf(header);
    if (given === undefined) throw unauthorizedProblem("There is no bearer token in the request.");
    // Nobody can guess a stored token. So its holder may call even while a guesser has the same address.
    const token = await findStored(store.tokens, given, emit);
    if (token) return admit(store, emit, token);
    guesses.check(address);
    const actor = findStatic(fixed, given);
    if (actor) return actor;
    await guesses.refuse(address, request.signal);
    const open =
      config.API_TOKENS.length === 0 ? " It has no API_TOKENS, so a program on this machine needs no token." : "";
    throw unauthorizedProblem(`The bearer token is not one of this service's.${open}`);
  };
}

function staticTokens(setting: string, tokens: readonly Secret[], scope: TokenScope): StaticToken[] {
  return tokens.map((token, n) => {
    const id = `${setting}#${n + 1}`;
    return { digest: digest(token.reveal()), actor: { id, name: id, scopes: [scope], mailboxPrefix: "" } };
  });
}

/** Every token is compared, so that the time does not show which one was close. */
function findStatic(tokens: readonly StaticToken[], given: string): Actor | undefined {
  const givenDigest = digest(given);
  return tokens.filter((token) => timingSafeEqual(token.digest, givenDigest))[0]?.actor;
}

/** Compared in constant time, also with a token that does not exist. Throws `config` for one that no key decrypts. */
async function findStored(tokens: Store["tokens"], given: string, emit: Emit): Promise<Token | undefined> {
  const id = tokenIdOf(given);
  const token = id === undefined ? undefined : await getToken(tokens, id, emit);
  const hash = token ? Buffer.from(token.hash, "hex") : Buffer.alloc(32);
  return timingSafeEqual(digest(given), hash) ? token : undefined;
}

/** An administrator must hear of a stored token that is unreadable: a key is missing, or somebody forged it. */
async function getToken(tokens: Store["tokens"], id: string, emit: Emit): Promise<Token | undefined> {
  try {
    return await tokens.get(id);
  } catch (error) {
    const { code, message } = asProblem(error);
    if (code === "config")
      emit({ kind: "service.failed", what: `reading the token ${id}`, failure: { code, cause: message } });
    throw error;
  }
}

/** How late `lastUsedAt` may be. Over all nodes a token costs one write in this time. */
const USE_INTERVAL_MS = 60_000;

/** The actor of a token. Throws `unauthorized` if it has expired. */
function admit({ tokens }: AuthDeps["store"], emit: Emit, token: Token): Actor {
  if (hasExpired(token)) throw unauthorizedProblem(`The token ${token.id} expired at ${token.expiresAt}.`);
  const now = clock.now();
  if (token.lastUsedAt === null || now - Date.parse(token.lastUsedAt) >= USE_INTERVAL_MS)
    tokens.recordUse(token.id, new Date(now).toISOString()).catch((error: unknown) => {
      const { code, message } = asProblem(error);
      emit({ kind: "service.failed", what: "recording the use of a token", failure: { code, cause: message } });
    });
  const { id, name, scopes, mailboxPrefix } = token;
  return { id, name, scopes, mailboxPrefix };
}

function hasExpired({ expiresAt }: Token): boolean {
  return expiresAt !== null && Date.parse(expiresAt) <= clock.now();
}

const RECHECK_MS = 2_000;
/** How long a stream goes on while the store cannot say whether its token is still valid. */
const UNKNOWN_FOR_MS = 15_000;

/**
 * Resolves within seconds after the actor's token was removed or has expired, or when the signal aborts. The tokens of
 * settings never end.
 */
export async function untilRevoked(store: Pick<Store, "tokens">, actor: Actor, signal: AbortSignal): Promise<void> {
  if (!STORED_ID.test(actor.id)) return untilAborted(signal);
  let knownAt = clock.monotonic();
  while (await sleep(RECHECK_MS, signal)) {
    const token = await store.tokens.get(actor.id).catch(() => "unknown" as const);
    if (token === undefined || (token !== "unknown" && hasExpired(token))) return;
    if (token !== "unknown") knownAt = clock.monotonic();
    else if (clock.monotonic() - knownAt > UNKNOWN_FOR_MS) return;
  }
}

const STORED_ID = /^[0-9a-f]{16}$/;

export function bearerOf(header: string | null): string | undefined {
  return /^Bearer +([^\s]+)\s*$/i.exec(header ?? "")?.[1];
}

/** Whether the actor may do what needs this scope. */
export function hasScope({ scopes }: Pick<Actor, "scopes">, scope: TokenScope): boolean {
  return scopes.includes(scope) || scopes.includes("admin");
}

/** The actor, if it may do what needs this scope. Else throws `scope`. */
export function requireScope(actor: Actor, scope: TokenScope): Actor {
  if (hasScope(actor, scope)) return actor;
  throw new Problem("scope", `This needs a token with the scope ${scope}; this one has ${actor.scopes.join(", ")}.`, {
    retry: "never",
  });
}

function unauthorizedProblem(why: string): Problem {
  return new Problem("unauthorized", why, { retry: "never" });
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/i;

function loopbackOnly(request: Request): Problem | undefined {
  const url = new URL(request.url);
  if (LOOPBACK.test(url.hostname) && !isCrossSite(request) && !isForwarded(request)) return undefined;
  const why =
    "Without API_TOKENS the service accepts only the host names 127.0.0.1 and localhost, and no requests from pages of other sites or through a proxy.";
  return new Problem("forbidden", why, { retry: "never" });
}
