/** Commands about the connection and the user: capabilities, TLS, LOGIN and AUTHENTICATE. */
import { type Command, isAtom, Refusal, textOf } from "./parser.ts";
import type { Handler, Session } from "./session.ts";
import type { Account } from "./store.ts";

/** The commands that need no login. */
export const loginCommands: Record<string, Handler> = {
  CAPABILITY: (session) => {
    session.send(`* CAPABILITY ${session.capabilityNames()}\r\n`);
    return "OK CAPABILITY completed";
  },
  NOOP: () => "OK NOOP completed",
  ID: (session) => {
    session.send('* ID ("name" "in-process IMAP server" "vendor" "email-listener")\r\n');
    return "OK ID completed";
  },
  LOGOUT: async (session, { tag }) => {
    await session.send(`* BYE Goodbye\r\n${tag} OK LOGOUT completed\r\n`).flush();
    session.end();
    return "";
  },
  STARTTLS: async (session, { tag }) => {
    if (session.secure || !session.server.capabilities.starttls) throw new Refusal("BAD STARTTLS is not possible now");
    await session.startTls(`${tag} OK Begin TLS negotiation now\r\n`);
    return "";
  },
  LOGIN: (session, { args }) => {
    const [user, password] = [textOf(args[0]), textOf(args[1])];
    if (session.server.capabilities.loginDisabled && !session.secure) throw new Refusal("NO [PRIVACYREQUIRED] Use TLS");
    return enter(session, user, (account) => account.password === password, "LOGIN");
  },
  AUTHENTICATE: async (session, command) => {
    const mechanism = textOf(command.args[0]).toUpperCase();
    const { plain, login, xoauth2, oauthbearer } = session.server.capabilities;
    if (session.server.capabilities.loginDisabled && !session.secure) throw new Refusal("NO [PRIVACYREQUIRED] Use TLS");
    if (mechanism === "PLAIN" && plain) return authenticatePlain(session, command);
    if (mechanism === "LOGIN" && login) return authenticateLogin(session);
    if (mechanism === "XOAUTH2" && xoauth2) return authenticateToken(session, command);
    if (mechanism === "OAUTHBEARER" && oauthbearer) return authenticateToken(session, command);
    throw new Refusal(`NO Unknown mechanism ${mechanism}`);
  },
};

async function authenticatePlain(session: Session, command: Command): Promise<string> {
  const [, user = "", password = ""] = (await initialResponse(session, command)).split("\0");
  return enter(session, user, (account) => account.password === password, "AUTHENTICATE");
}

async function authenticateLogin(session: Session): Promise<string> {
  const user = await challenge(session, Buffer.from("Username:").toString("base64"));
  const password = await challenge(session, Buffer.from("Password:").toString("base64"));
  return enter(session, user, (account) => account.password === password, "AUTHENTICATE");
}

// XOAUTH2 sends "user=…^Aauth=Bearer …^A^A", OAUTHBEARER "n,a=…,^Aauth=Bearer …^A^A" (RFC 7628).
async function authenticateToken(session: Session, command: Command): Promise<string> {
  const response = await initialResponse(session, command);
  const fields = response.split("\u0001");
  const user = /^(?:user=|n,a=)([^,]*)/.exec(fields[0] ?? "")?.[1] ?? "";
  const token = fields.find((field) => /^auth=Bearer /i.test(field))?.slice("auth=Bearer ".length) ?? "";
  if (session.server.store.accounts.get(user)?.tokens.has(token)) {
    return enter(session, user, () => true, "AUTHENTICATE");
  }
  // The reason comes as a challenge, to which the client sends an empty (or ^A) response.
  const reason = { status: "400", schemes: "Bearer", scope: "https://mail.google.com/" };
  await challenge(session, Buffer.from(JSON.stringify(reason)).toString("base64"));
  return enter(session, user, () => false, "AUTHENTICATE");
}

async function initialResponse(session: Session, { args }: Command): Promise<string> {
  const initial = args[1];
  if (!initial) return challenge(session, "");
  return isAtom(initial, "=") ? "" : decoded(textOf(initial));
}

async function challenge(session: Session, text: string): Promise<string> {
  await session.send(`+ ${text}\r\n`).flush();
  const line = (await session.reader.line())?.toString() ?? "*";
  if (line === "*") throw new Refusal("BAD AUTHENTICATE cancelled");
  return decoded(line);
}

function decoded(base64: string): string {
  return Buffer.from(base64, "base64").toString();
}

function enter(session: Session, user: string, knows: (account: Account) => boolean, verb: string): string {
  const { server } = session;
  const account = server.store.accounts.get(user);
  const ok = account !== undefined && knows(account);
  if (ok && server.maxConnectionsPerUser < Infinity && server.sessionsOf(user) >= server.maxConnectionsPerUser) {
    server.logLogin(session, user, false);
    throw new Refusal("NO [ALERT] Too many simultaneous connections. (Failure)");
  }
  server.logLogin(session, user, ok);
  if (!ok) throw new Refusal("NO [AUTHENTICATIONFAILED] Invalid credentials");
  session.account = account;
  const list = server.capabilities.silent ? "" : `[CAPABILITY ${session.capabilityNames()}] `;
  return `OK ${list}${verb} completed`;
}
