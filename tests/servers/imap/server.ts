/**
 * A small IMAP4rev1 server in this process, for tests and for the demo: quick to start, thousands of messages and
 * connections, and wrong in every way a test asks for. Its mail lives in memory and outlasts `stop` and `start`.
 */
import { createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { createServer as createTlsServer, Server as TlsServer } from "node:tls";
import type { KeyPair } from "../certificates.ts";
import type { MailServer } from "../mail-server.ts";
import { listenOn } from "../ports.ts";
import { type Capabilities, capabilitiesWith } from "./capabilities.ts";
import { Faults } from "./faults.ts";
import { folderCommands } from "./folders.ts";
import { loginCommands } from "./login.ts";
import { messageCommands } from "./messages.ts";
import { controls } from "./controls.ts";
import { type Handler, Session, type SessionServer } from "./session.ts";
import { MailStore, type Message } from "./store.ts";

export type ImapServerOptions = {
  /** Users with their passwords, to begin with. */
  users?: Record<string, string>;
  capabilities?: Partial<Capabilities>;
  /** The certificate and the authority that signed it; made up if left out, null for a server without TLS. */
  tls?: (KeyPair & { ca: string }) | null;
  maxConnectionsPerUser?: number;
  host?: string;
  imapPort?: number;
  imapsPort?: number;
};

/** One attempt to log in; `at` is in ms since 1970. */
export type Login = { at: number; user: string; ok: boolean; connection: number };

/** One command as it arrived, without literals and without passwords. */
export type LoggedCommand = { at: number; connection: number; user: string | undefined; name: string; line: string };

/** The in-process server: a mail server whose inside can be seen and broken. */
export type ImapServer = MailServer & {
  faults: Faults;
  /** Can be changed at any time; sessions see it with their next command. */
  capabilities: Capabilities;
  /** How many connections are open now. */
  readonly connections: number;
  /** How many connections there have ever been. */
  readonly accepted: number;
  readonly logins: readonly Login[];
  /** The last commands, at most 20,000. */
  readonly commands: readonly LoggedCommand[];
  /** Lets the user in with this access token (XOAUTH2, OAUTHBEARER) from now on. */
  addToken(user: string, token: string): Promise<void>;
  removeToken(user: string, token: string): Promise<void>;
  setFlags(user: string, folder: string, uid: number, flags: string[]): Promise<void>;
  move(user: string, from: string, uid: number, to: string): Promise<void>;
  messages(user: string, folder: string): readonly Message[];
};

const MOST_LOGGED = 20_000;

/** Starts the server on free ports of 127.0.0.1; resolves once it listens. */
export async function startImapServer(options: ImapServerOptions = {}): Promise<ImapServer> {
  const tls = options.tls === undefined ? await ownCertificate() : (options.tls ?? undefined);
  const store = new MailStore();
  const inside = new Inside(store, tls, options);
  const server: ImapServer = {
    name: "in process",
    host: options.host ?? "127.0.0.1",
    imapPort: options.imapPort ?? 0,
    imapsPort: options.imapsPort ?? 0,
    ca: tls?.ca,
    faults: inside.faults,
    capabilities: inside.capabilities,
    logins: inside.logins,
    commands: inside.log,
    get connections() {
      return inside.sessions.size;
    },
    get accepted() {
      return inside.accepted;
    },
    ...controls(store),
    disconnectAll: async () => {
      for (const session of inside.sessions) session.destroy();
    },
    start: async () => {
      server.imapPort = await inside.listen(createServer(), server.host, server.imapPort);
      if (tls) server.imapsPort = await inside.listen(createTlsServer(tls), server.host, server.imapsPort);
    },
    stop: () => inside.close((session) => void session.bye("Server is shutting down")),
    kill: () => inside.close((session) => session.destroy()),
  };
  for (const [name, password] of Object.entries(options.users ?? {})) store.addAccount(name, password);
  await server.start();
  return server;
}

async function ownCertificate(): Promise<KeyPair & { ca: string }> {
  // Loaded only when wanted: the demo runs without TLS and without this package.
  const { makeCertificates } = await import("../certificates.ts");
  const { ca, server } = await makeCertificates();
  return { ca, ...server };
}

const COMMANDS: Record<string, Handler> = { ...loginCommands, ...folderCommands, ...messageCommands };

class Inside implements SessionServer {
  readonly sessions = new Set<Session>();
  readonly logins: Login[] = [];
  readonly log: LoggedCommand[] = [];
  readonly faults = new Faults();
  readonly commands = COMMANDS;
  readonly store: MailStore;
  readonly capabilities: Capabilities;
  readonly keyPair: KeyPair | undefined;
  readonly maxConnectionsPerUser: number;
  readonly #servers: Server[] = [];
  accepted = 0;

  constructor(store: MailStore, keyPair: KeyPair | undefined, options: ImapServerOptions) {
    this.store = store;
    this.capabilities = capabilitiesWith(options.capabilities);
    this.keyPair = keyPair;
    this.maxConnectionsPerUser = options.maxConnectionsPerUser ?? Infinity;
  }

  sessionsOf(user: string): number {
    let count = 0;
    for (const session of this.sessions) if (session.account?.name === user) count++;
    return count;
  }

  logCommand(session: Session, name: string, line: string): void {
    this.log.push({ at: Date.now(), connection: session.id, user: session.account?.name, name, line });
    if (this.log.length > MOST_LOGGED) this.log.splice(0, MOST_LOGGED / 2);
  }

  logLogin(session: Session, user: string, ok: boolean): void {
    this.logins.push({ at: Date.now(), user, ok, connection: session.id });
  }

  listen(server: Server, host: string, port: number): Promise<number> {
    this.#servers.push(server);
    server.on(server instanceof TlsServer ? "secureConnection" : "connection", (socket: Socket) => this.#serve(socket));
    server.on("tlsClientError", (_error, socket: Socket) => socket.destroy());
    return listenOn(server, port, host);
  }

  async close(end: (session: Session) => void): Promise<void> {
    const servers = this.#servers.splice(0);
    const closed = servers.map((server) => new Promise((resolve) => server.close(resolve)));
    const sessions = [...this.sessions];
    for (const session of sessions) end(session);
    await Promise.race([Promise.all(sessions.map((session) => session.closed)), sleep(500, undefined, { ref: false })]);
    for (const session of this.sessions) session.destroy();
    await Promise.race([Promise.all(closed), sleep(500, undefined, { ref: false })]);
  }

  #serve(socket: Socket): void {
    const session = new Session(++this.accepted, socket, this);
    this.sessions.add(session);
    void session.closed.then(() => this.sessions.delete(session));
    session.run().catch((error: unknown) => {
      session.destroy();
      process.emitWarning(`The in-process IMAP server failed: ${error instanceof Error ? error.stack : String(error)}`);
    });
  }
}
