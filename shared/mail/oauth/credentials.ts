/** The login of a mailbox in clear, for the moment in which it is sent. */
import type { Mailbox } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { Tokens } from "./tokens.ts";

export type Credentials = { user: string; pass: string } | { user: string; accessToken: string };

/** A server may refuse a token in words of its own, which seem to mean something else. */
const REFUSED_LOGIN = new Set<Problem["code"]>(["auth", "auth_method", "unavailable"]);

/**
 * Logs in to receive. A provider may end a token before its time. So when it is refused, a new one is fetched and tried
 * once, before anything fails.
 */
export async function withCredentials<T>(
  deps: { tokens?: Tokens | undefined },
  mailbox: Mailbox,
  logIn: (auth: Credentials) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const auth = await getCredentials(deps, mailbox, signal);
  try {
    return await logIn(auth);
  } catch (error) {
    const isRefused = error instanceof Problem && REFUSED_LOGIN.has(error.code);
    if (!isRefused || !("oauth2" in mailbox.receive.auth) || !("accessToken" in auth)) throw error;
    deps.tokens?.forget(mailbox.id, auth.accessToken);
    const renewed = await getCredentials(deps, mailbox, signal);
    if (!("accessToken" in renewed) || renewed.accessToken === auth.accessToken) throw error;
    return logIn(renewed);
  }
}

/** The login of a mailbox in clear. An OAuth2 token that is about to expire is refreshed first. */
export async function getCredentials(
  { tokens }: { tokens?: Tokens | undefined },
  mailbox: Mailbox,
  signal: AbortSignal,
): Promise<Credentials> {
  const { auth } = mailbox.receive;
  if (!("user" in auth)) throw new Problem("internal", "A login for Graph names no user", { retry: "never" });
  if ("password" in auth) return { user: auth.user, pass: auth.password.reveal() };
  if ("accessToken" in auth) return { user: auth.user, accessToken: auth.accessToken.reveal() };
  if (!tokens) throw new Problem("token", "OAuth2 is not set up in this process", { retry: "never" });
  return { user: auth.user, accessToken: (await tokens.access(mailbox, signal)).reveal() };
}
