/**
 * Logins to the console. The cookie holds the token and its end, encrypted by ENCRYPTION_KEYS, so every node knows it,
 * also after a restart. A token that is revoked ends its logins at once.
 */
import * as v from "valibot";
import { Problem } from "../../../shared/contract/problem.ts";
import type { Actor } from "../../../shared/contract/token.ts";
import { clock } from "../../../shared/time.ts";
import type { ApiDeps } from "../../deps.ts";
import { type Authenticate, hasScope } from "../../http/auth.ts";

export interface Sessions {
  /**
   * Who makes the request: by the cookie, else as the API knows it (a bearer token, or this machine while the service is
   * open). Throws `unauthorized` without a login.
   */
  actorOf(request: Request, address: string): Promise<Actor>;
  /** Resolves with the cookie of a new login. A wrong token counts as a guess, and throws as it does in the API. */
  begin(token: string, request: Request, address: string): Promise<string>;
  /** The cookie that ends a login. */
  endCookie(request: Request): string;
}

type SessionsDeps = Pick<ApiDeps, "config" | "sealing"> & { authenticate: Authenticate };

const COOKIE = "email_listener_session";
const LOGIN_SECONDS = 12 * 3600;
/** What the vault binds a cookie to: nothing else that it sealed is a login. */
const PURPOSE = "console login";
const Login = v.object({ token: v.string(), until: v.number() });

export function consoleSessions({ config, sealing, authenticate }: SessionsDeps): Sessions {
  const asBearer = (token: string, request: Request, address: string) => {
    const headers = new Headers(request.headers);
    headers.set("authorization", `Bearer ${token}`);
    return authenticate(new Request(request.url, { headers, signal: request.signal }), address);
  };
  const cookieOf = (request: Request, value: string, seconds: number) =>
    `${COOKIE}=${value}; Path=${config.BASE_PATH || "/"}; Max-Age=${seconds}; HttpOnly; SameSite=Strict` +
    (isHttps(request, config.PUBLIC_URL) ? "; Secure" : "");
  return {
    async actorOf(request, address) {
      const sealed = readCookie(request);
      const token = sealed === undefined ? undefined : openLogin(sealing, sealed);
      return token === undefined ? authenticate(request, address) : asBearer(token, request, address);
    },
    async begin(token, request, address) {
      const actor = await asBearer(token, request, address);
      if (!hasScope(actor, "read")) throw cannotReadProblem(actor);
      const until = clock.now() + LOGIN_SECONDS * 1000;
      return cookieOf(request, sealing.seal(JSON.stringify({ token, until }), PURPOSE), LOGIN_SECONDS);
    },
    endCookie: (request) => cookieOf(request, "", 0),
  };
}

/** The token of a login that has not ended. A cookie of others, or of a key that is gone, is no login. */
function openLogin(sealing: SessionsDeps["sealing"], sealed: string): string | undefined {
  try {
    const { token, until } = v.parse(Login, JSON.parse(sealing.open(sealed, PURPOSE)));
    return until > clock.now() ? token : undefined;
  } catch {
    return undefined;
  }
}

function readCookie({ headers }: Request): string | undefined {
  const pairs = (headers.get("cookie") ?? "").split(";").map((pair) => pair.trim());
  return pairs.find((pair) => pair.startsWith(`${COOKIE}=`))?.slice(COOKIE.length + 1);
}

/** A browser keeps a Secure cookie only if it reached the service by https. So it may say so itself. */
function isHttps({ url, headers }: Request, publicUrls: readonly string[]): boolean {
  const { protocol, host } = new URL(url);
  const isPublic = publicUrls.some((one) => new URL(one).protocol === "https:" && new URL(one).host === host);
  return protocol === "https:" || isPublic || /^https\b/i.test(headers.get("x-forwarded-proto") ?? "");
}

export function cannotReadProblem({ scopes }: Actor): Problem {
  const why = `The console needs a token with the scope read; this one has ${scopes.join(", ")}.`;
  return new Problem("scope", why, { retry: "never" });
}
