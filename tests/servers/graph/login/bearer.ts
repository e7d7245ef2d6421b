/** Reads the bearer token of a request, and refuses the wrong ones with the words that Graph has for each. */
import { GraphError } from "../answers.ts";
import type { Caller } from "./applications.ts";
import type { GraphRequest, World } from "../world.ts";

function refused(message: string): GraphError {
  const headers = {
    "WWW-Authenticate": `Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000"`,
  };
  return new GraphError({ status: 401, code: "InvalidAuthenticationToken", message, headers });
}

/** Who asks. Throws 401. */
export function callerOf({ login, root }: World, request: GraphRequest): Caller {
  const [scheme = "", token = ""] = (request.headers["authorization"] ?? "").split(/ (.*)/s);
  if (scheme.toLowerCase() !== "bearer" || token === "") throw refused("Access token is empty.");
  const known = login.accessTokens.get(token);
  if (!known) throw refused(complaint(token, root));
  if (known.audience !== root) throw refused("Access token validation failure. Invalid audience.");
  if (known.expiresAt <= Date.now()) throw refused("Lifetime validation failed, the token is expired.");
  return known;
}

function complaint(token: string, root: string): string {
  const parts = token.split(".");
  if (parts.length !== 3) return "IDX14100: JWT is not well formed, there are no dots (.).";
  try {
    const claims = JSON.parse(Buffer.from(parts[1] ?? "", "base64url").toString()) as Record<string, unknown>;
    if (claims["aud"] !== root) return "Access token validation failure. Invalid audience.";
    if (Number(claims["exp"]) * 1000 <= Date.now()) return "Lifetime validation failed, the token is expired.";
    return "Access token validation failure. Invalid signature.";
  } catch {
    return "CompactToken parsing failed with error code: 80049217";
  }
}
