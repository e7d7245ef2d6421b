/** Opening a POP3 session: address guard, TLS or STLS (RFC 2595), login by password, APOP or OAuth2. */
import { createHash } from "node:crypto";
import type { Socket } from "node:net";
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { Egress } from "../../egress.ts";
import type { Emit } from "../../telemetry/events.ts";
import { atPace, type Paced } from "../net/login-rate.ts";
import { type Credentials, credentials } from "../credentials.ts";
import { portOf } from "../defaults.ts";
import type { Tokens } from "../oauth/tokens.ts";
import { secured } from "../net/tls.ts";
import { type Line, lineOver } from "./stream.ts";
import { answer, ask, capabilitiesOf, type Session, sessionOver, type Talk } from "./session.ts";

/** What a POP3 session needs; as for IMAP. */
export type Pop3Deps = Paced & {
  egress: Egress;
  tokens?: Tokens;
  timeouts: { command: number };
  emit?: Emit;
};

export type Pop3Mailbox = MailboxOf<"pop3">;

/** Connects and logs in. Throws the Problem of the step that failed; nothing stays open then. */
export function openSession(deps: Pop3Deps, mailbox: Pop3Mailbox, signal: AbortSignal): Promise<Session> {
  return atPace(deps, mailbox.receive.host, () => connected(deps, mailbox, signal), signal);
}

async function connected(deps: Pop3Deps, mailbox: Pop3Mailbox, signal: AbortSignal): Promise<Session> {
  const { receive } = mailbox;
  const auth = await credentials(deps, mailbox, signal);
  const timeoutMs = deps.timeouts.command;
  const raw = await deps.egress.connect({ host: receive.host, port: portOf(receive), timeoutMs }, signal);
  // Whoever reads from the connection hears its errors too; without a listener the time between would end the process.
  raw.on("error", () => undefined);
  const socket = receive.tls === "implicit" ? await secured(raw, receive, timeoutMs, signal) : raw;
  return logIn(deps, mailbox, { socket, auth }, signal);
}

/**
 * Speaks POP3 on a connected socket (already TLS where the mailbox says implicit) up to a logged-in session. `onSecure` is
 * called when STLS succeeded. A refused OAuth2 token is forgotten, so that the next try fetches a new one.
 */
export async function logIn(
  deps: Pop3Deps,
  mailbox: Pop3Mailbox,
  by: { socket: Socket; auth: Credentials; onSecure?: () => void },
  signal: AbortSignal,
): Promise<Session> {
  const secrets = ["pass" in by.auth ? by.auth.pass : by.auth.accessToken];
  const lines: Line[] = [];
  const talkOver = (socket: Socket): Talk => {
    const line = lineOver(socket);
    lines.push(line);
    return { line, quietMs: deps.timeouts.command, secrets };
  };
  const stop = () => lines.at(-1)?.cut(new Problem("connect", "It was called off"));
  signal.addEventListener("abort", stop, { once: true });
  try {
    signal.throwIfAborted();
    let talk = talkOver(by.socket);
    const greeting = await answer(talk, "The greeting", "login");
    let capabilities = await capabilitiesOf(talk);
    if (mailbox.receive.tls === "starttls") {
      talk = talkOver(await upgraded(deps, mailbox, talk, signal));
      by.onSecure?.();
      // What was said before TLS counts for nothing.
      capabilities = await capabilitiesOf(talk);
    }
    await authenticate(talk, { mailbox, auth: by.auth, greeting, capabilities });
    return sessionOver(talk, capabilities);
  } catch (error) {
    lines.at(-1)?.cut(new Problem("connect", "The login failed"));
    by.socket.destroy();
    signal.throwIfAborted();
    throw refusedLogin(deps, mailbox, error);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

async function upgraded(deps: Pop3Deps, { receive }: Pop3Mailbox, talk: Talk, signal: AbortSignal) {
  await ask(talk, "STLS").catch((error: unknown) => {
    if (talk.line.ended.aborted) throw error;
    throw new Problem("starttls", "The server does not offer STLS", { retry: "never", cause: error });
  });
  if (talk.line.unread > 0) {
    throw new Problem("starttls", "Somebody put words into the connection before TLS began", { retry: "never" });
  }
  return secured(talk.line.detach(), receive, deps.timeouts.command, signal);
}

type Login = {
  mailbox: Pop3Mailbox;
  auth: Credentials;
  greeting: string;
  capabilities: ReadonlyMap<string, string>;
};

async function authenticate(talk: Talk, login: Login): Promise<void> {
  const { auth, capabilities, mailbox } = login;
  if ("accessToken" in auth) {
    const text = `user=${auth.user}\x01auth=Bearer ${auth.accessToken}\x01\x01`;
    return sasl(talk, "XOAUTH2", text);
  }
  const { user, pass } = auth;
  if (/[\r\n\0]/.test(user + pass)) {
    throw new Problem("auth", "User name or password has a character that POP3 cannot carry", { retry: "never" });
  }
  const { apop, tls } = mailbox.receive;
  const stamp = timestampOf(login.greeting);
  if (apop === true && stamp === undefined) {
    throw new Problem("auth_method", "The server does not offer APOP, which `apop: true` demands", { retry: "never" });
  }
  if (stamp !== undefined && (apop ?? tls === "none")) return apopLogin(talk, stamp, { user, pass });
  const plain = !capabilities.has("USER") && / PLAIN\b/i.test(` ${capabilities.get("SASL") ?? ""}`);
  if (plain) return sasl(talk, "PLAIN", `\0${user}\0${pass}`);
  await ask(talk, `USER ${user}`, "login");
  await ask(talk, `PASS ${pass}`, "login");
}

async function apopLogin(talk: Talk, stamp: string, { user, pass }: { user: string; pass: string }): Promise<void> {
  const digest = createHash("md5").update(`${stamp}${pass}`).digest("hex");
  try {
    await ask(talk, `APOP ${user} ${digest}`, "login");
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== "auth") throw error;
    const { evidence, retry } = error;
    const cause = "The server refused the login by APOP; `apop: false` logs in by USER and PASS instead";
    throw new Problem("auth", cause, { retry, cause: error, ...(evidence === null ? {} : { evidence }) });
  }
}

/** The timestamp of a greeting, if it has the form of a message id (RFC 1939 section 7); anything else helps an attacker. */
function timestampOf(greeting: string): string | undefined {
  return /<[\x21-\x3b\x3d\x3f\x41-\x7e]+@[\x21-\x3b\x3d\x3f\x41-\x7e]+>/.exec(greeting)?.[0];
}

/** One SASL exchange (RFC 5034): the server asks, and gets all there is to say. */
async function sasl(talk: Talk, mechanism: string, text: string): Promise<void> {
  talk.line.send(`AUTH ${mechanism}\r\n`);
  await answer(talk, "AUTH", "login");
  talk.line.send(`${Buffer.from(text).toString("base64")}\r\n`);
  const said = await answer(talk, "AUTH", "login");
  // A refused token is explained in a challenge first; an empty answer to it brings the refusal itself.
  if (mechanism === "XOAUTH2" && /^[A-Za-z0-9+/]{8,}=*$/.test(said)) {
    talk.line.send("\r\n");
    await answer(talk, "AUTH", "login");
  }
}

function refusedLogin(deps: Pop3Deps, mailbox: Pop3Mailbox, error: unknown): unknown {
  if (!(error instanceof Problem) || error.code !== "auth" || !("oauth2" in mailbox.receive.auth)) return error;
  deps.tokens?.forget(mailbox.id);
  const { message, evidence } = error;
  // Another token may be accepted; how often that is tried is the subscription's to count.
  return new Problem("auth", message, { cause: error, ...(evidence === null ? {} : { evidence }) });
}
