/** The login of a mailbox in clear, for the moment in which it is sent. */
import type { Mailbox } from "../contract/mailbox.ts";
import { Problem } from "../contract/problem.ts";
import type { Tokens } from "./oauth/tokens.ts";

export type Credentials = { user: string; pass: string } | { user: string; accessToken: string };

/** The login of a mailbox in clear; an OAuth2 token is refreshed first when it is about to expire. */
export async function credentials(
  { tokens }: { tokens?: Tokens | undefined },
  mailbox: Mailbox,
  signal: AbortSignal,
): Promise<Credentials> {
  const { auth } = mailbox.receive;
  if ("password" in auth) return { user: auth.user, pass: auth.password.reveal() };
  if ("accessToken" in auth) return { user: auth.user, accessToken: auth.accessToken.reveal() };
  if (!tokens) throw new Problem("token", "OAuth2 is not set up in this process", { retry: "never" });
  return { user: auth.user, accessToken: (await tokens.access(mailbox, signal)).reveal() };
}
