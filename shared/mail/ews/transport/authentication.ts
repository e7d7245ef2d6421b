/** Who logs in to Exchange, and how that is shown: bearer and basic with every request, NTLM once for a connection. */
import type { IncomingMessage } from "node:http";
import { TLSSocket } from "node:tls";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import { Problem } from "../../../contract/problem.ts";
import type { Tokens } from "../../oauth/tokens.ts";
import type { Lines, Scheme, Wire } from "../lines.ts";
import { ntlmAnswer, ntlmChallenge, ntlmGreeting } from "./ntlm.ts";
import { methodProblem } from "./auth-errors.ts";

/** A password is shown as `scheme` says, or as the server asks for it, NTLM before basic. Nobody is told a 401. */
export type Login = Known | "nobody";

/** `secrets` is what a server might repeat, and no evidence may hold. */
export type Known = { secrets: () => readonly string[] } & (
  | { user: string; pass: string; scheme?: Scheme | undefined; mailbox: string }
  | { token: (signal: AbortSignal) => Promise<string>; refused: () => void }
);

/** The login of a mailbox; an OAuth2 token is fetched when it is needed. */
export function loginOf({ tokens }: { tokens?: Tokens }, mailbox: MailboxOf<"ews">): Known {
  const { auth, scheme } = mailbox.receive;
  if ("password" in auth) {
    const { user } = auth;
    const pass = auth.password.reveal();
    return { user, pass, scheme, mailbox: mailbox.id, secrets: () => [`${user}:${pass}`, pass] };
  }
  let last = "";
  return {
    async token(signal) {
      if (!tokens && "oauth2" in auth)
        throw new Problem("token", "OAuth2 is not set up in this process", { retry: "never" });
      const token = "accessToken" in auth ? auth.accessToken : await tokens?.access(mailbox, signal);
      last = token?.reveal() ?? "";
      return last;
    },
    refused: () => tokens?.forget(mailbox.id),
    secrets: () => [last],
  };
}

/** The value of Authorization; undefined where the connection is logged in already, or nobody is. */
export type Shown = string | undefined;

/** The server ended a connection after saying how it wants to be logged in to; the request itself was not sent. */
export class Closed extends Error {}

/** Sends this Authorization with an empty request, and resolves once the answer was read. */
export type Greet = (authorization: string) => Promise<IncomingMessage>;

/**
 * What a request must show on this connection. How a server wants to see passwords is asked with a greeting of NTLM, which gives nothing
 * away, and remembered for the account. Throws `auth_method` where the server wants something else, `Closed` where it hung up.
 */
export async function authorization(
  login: Login,
  at: { lines: Lines; wire: Wire; greet: Greet },
  signal: AbortSignal,
): Promise<Shown> {
  if (login === "nobody") return undefined;
  if ("token" in login) return `Bearer ${await login.token(signal)}`;
  const { lines, wire, greet } = at;
  if (wire.authenticated) return undefined;
  const { user, pass, scheme } = login;
  const basic = `Basic ${Buffer.from(`${user}:${pass}`).toString("base64")}`;
  if ((scheme ?? lines.scheme) === "basic") return basic;
  const { statusCode, headers } = await greet(ntlmGreeting());
  const offered = headers["www-authenticate"];
  const challenge = ntlmChallenge(offered);
  if (challenge !== undefined) {
    lines.scheme = "ntlm";
    return ntlmAnswer(challenge, { user, pass }, certificateOf(wire));
  }
  if (statusCode !== 401) return undefined;
  if (scheme === "ntlm" || !/\bBasic\b/i.test(offered ?? "")) throw methodProblem(scheme, headers);
  lines.scheme = "basic";
  if (headers.connection?.toLowerCase() === "close") throw new Closed();
  return basic;
}

/** True where what was shown logs in the connection itself. */
export function logsInConnection(shown: Shown): boolean {
  return shown?.startsWith("NTLM ") ?? false;
}

function certificateOf({ socket }: Wire): Uint8Array | undefined {
  return socket instanceof TLSSocket ? socket.getPeerCertificate().raw : undefined;
}
