/** Authentication to Exchange: Bearer and Basic with every request, NTLM once for each connection. */
import type { IncomingMessage } from "node:http";
import { TLSSocket } from "node:tls";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import { Problem } from "../../../contract/problem.ts";
import type { Secret } from "../../../contract/secret.ts";
import type { LoginGate } from "../../net/login-gate.ts";
import type { Tokens } from "../../oauth/tokens.ts";
import type { ConnectionPool, Scheme, Connection } from "../../http/connection-pool.ts";
import { createNtlmAuthenticate, findNtlmChallenge, createNtlmNegotiate } from "./ntlm.ts";
import { authMethodProblem } from "./auth-errors.ts";

/**
 * A password is sent with the scheme that `scheme` names, or that the server asks for, NTLM before Basic. With "nobody"
 * no credentials are sent and a 401 is no error.
 */
export type Login = MailboxLogin | "nobody";

/** `secrets` are texts that a server might repeat and that no evidence may contain. */
export type MailboxLogin = { secrets: () => readonly string[] } & (
  | { user: string; password: Secret; scheme?: Scheme | undefined; gate?: LoginGate | undefined }
  | { token: (signal: AbortSignal) => Promise<string>; forgetToken: (refused: string) => void }
);

/** The login of a mailbox. An OAuth2 token is fetched when it is needed. */
export function getLogin(
  { tokens, logins }: { tokens?: Tokens; logins?: LoginGate },
  mailbox: MailboxOf<"ews">,
): MailboxLogin {
  const { auth, scheme } = mailbox.receive;
  if ("password" in auth) {
    const { user, password } = auth;
    const pass = password.reveal();
    return { user, password, scheme, gate: logins, secrets: () => [`${user}:${pass}`, pass] };
  }
  let lastToken = "";
  return {
    async token(signal) {
      if (!tokens && "oauth2" in auth)
        throw new Problem("token", "OAuth2 is not set up in this process", { retry: "never" });
      const token = "accessToken" in auth ? auth.accessToken : await tokens?.access(mailbox, signal);
      lastToken = token?.reveal() ?? "";
      return lastToken;
    },
    forgetToken: (refused) => tokens?.forget(mailbox.id, refused),
    secrets: () => [lastToken],
  };
}

/** The value of Authorization; undefined if the connection is already authenticated, or for "nobody". */
export type AuthorizationHeader = string | undefined;

/** The server closed the connection after it had said which scheme it wants. The request itself was not sent. */
export class ConnectionClosed extends Error {}

/** Sends this Authorization with an empty request, and resolves once the answer was read. */
export type NegotiateFn = (authorization: string) => Promise<IncomingMessage>;

/**
 * The Authorization for a request on this connection. To find out which scheme the server wants, it sends an NTLM
 * negotiate message, which reveals nothing, and remembers the answer for the login. Throws `auth_method` if the server
 * wants something else, and `ConnectionClosed` if it closed the connection.
 */
export async function authorize(
  login: Login,
  at: { lines: ConnectionPool; wire: Connection; greet: NegotiateFn },
  signal: AbortSignal,
): Promise<AuthorizationHeader> {
  if (login === "nobody") return undefined;
  if ("token" in login) return `Bearer ${await login.token(signal)}`;
  const { lines, wire, greet: negotiate } = at;
  if (wire.authenticated) return undefined;
  const { user, password, scheme } = login;
  const pass = password.reveal();
  const basic = `Basic ${Buffer.from(`${user}:${pass}`).toString("base64")}`;
  if ((scheme ?? lines.scheme) === "basic") return basic;
  const { statusCode, headers } = await negotiate(createNtlmNegotiate());
  const offered = headers["www-authenticate"];
  const challenge = findNtlmChallenge(offered);
  if (challenge !== undefined) {
    lines.scheme = "ntlm";
    return createNtlmAuthenticate(challenge, { user, pass }, peerCertificate(wire));
  }
  if (statusCode !== 401) return undefined;
  if (scheme === "ntlm" || !/\bBasic\b/i.test(offered ?? "")) throw authMethodProblem(scheme, headers);
  lines.scheme = "basic";
  if (headers.connection?.toLowerCase() === "close") throw new ConnectionClosed();
  return basic;
}

/** True if this Authorization authenticates the connection itself. */
export function authenticatesConnection(header: AuthorizationHeader): boolean {
  return header?.startsWith("NTLM ") ?? false;
}

function peerCertificate({ socket }: Connection): Uint8Array | undefined {
  return socket instanceof TLSSocket ? socket.getPeerCertificate().raw : undefined;
}
