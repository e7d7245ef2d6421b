/** The OAuth2 settings of a login, with the token server that they mean. */
import { graphRootOf, tokenUrlOf } from "../../contract/graph.ts";
import type { Auth, Mailbox, UserAuth } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";

/** Settings that name their token server. `signsBy` is how an RSA key signs for the client; RS256 when absent. */
export type OAuth2 = Extract<UserAuth, { oauth2: unknown }>["oauth2"] & { signsBy?: "PS256" };

/**
 * The settings of this login of the mailbox. Undefined for a password or a given token. A login for Graph names its tenant, from
 * which the token server follows. An application asks for all permissions that were granted to it there.
 */
export function getOAuth2({ receive }: Pick<Mailbox, "receive">, auth: Auth): OAuth2 | undefined {
  if (!("oauth2" in auth)) return undefined;
  if ("user" in auth) return auth.oauth2;
  if (receive.protocol !== "graph")
    throw new Problem("internal", "A login for Graph belongs to a mailbox by another protocol", { retry: "never" });
  const { tenant: _, tokenUrl: _given, scope, ...client } = auth.oauth2;
  const asked = scope ?? (client.refreshToken ? undefined : `${graphRootOf(receive)}/.default`);
  const { cloud } = receive;
  const tokenUrl = tokenUrlOf({ cloud, auth }) ?? "";
  // Microsoft asks for PS256.
  return { ...client, tokenUrl, signsBy: "PS256", ...(asked !== undefined && { scope: asked }) };
}
