/**
 * Reads a token's claims to say why Graph may have refused it. They are a hint only: Graph does not promise that its
 * tokens are readable, and with RBAC for Applications a good token names no permission.
 */
import { clock } from "../../../time.ts";
import { quoteWords } from "../../../evidence/evidence.ts";

type Claims = { aud?: unknown; exp?: unknown; tid?: unknown; roles?: unknown; scp?: unknown };

/** The id of Microsoft Graph as an application, which some tokens have as their audience. */
const GRAPH_APP_ID = "00000003-0000-0000-c000-000000000000";

/** The claims of a JWT (RFC 7519), unverified. Undefined for an opaque token. */
function readClaims(token: string): Claims | undefined {
  const [, payload = ""] = token.split(".");
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, "base64url").toString("utf8"));
    return typeof claims === "object" && claims !== null ? claims : undefined;
  } catch {
    return undefined;
  }
}

/** Why this token is of no use at this root of Graph, as far as its claims say it; undefined if they do not. */
export function explainToken(token: string, root: string): string | undefined {
  const claims = readClaims(token);
  if (!claims) return undefined;
  const { aud, exp } = claims;
  if (typeof aud === "string" && aud !== GRAPH_APP_ID && aud.replace(/(?<!\/)\/+$/, "") !== root)
    return `The token is for ${shown(aud)}, and not for ${root}`;
  if (typeof exp === "number" && exp * 1000 <= clock.now())
    return `The token expired at ${new Date(Math.max(0, exp * 1000)).toISOString()}`;
  return undefined;
}

/** The permissions that a token names, for people. With RBAC for Applications a good token names none for mail. */
export function describePermissions(token: string): string {
  const { roles, scp } = readClaims(token) ?? {};
  const names = [...(Array.isArray(roles) ? roles : []), ...(typeof scp === "string" ? scp.split(" ") : [])];
  const mail = names.filter((name): name is string => typeof name === "string" && name.startsWith("Mail"));
  return mail.length > 0 ? `the token names ${mail.map(shown).join(", ")}` : "the token names no permission for mail";
}

function shown(claim: string): string {
  return quoteWords(claim, { secrets: [] }, 100);
}
