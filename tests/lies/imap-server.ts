/**
 * An IMAP server for the property test: many mailboxes behind one port, one for each user, each with its own way of telling untruths.
 * What it really has is in `folders`, where the model counts.
 */
import { createServer, type Server, type Socket } from "node:net";
import { listenOn } from "../servers/ports.ts";
import type { Liar } from "./imap-liar.ts";

/** `earlier` are the numbers that the message had before its folder was renumbered. */
export type StoredMessage = {
  uid: number;
  content: string;
  raw: Buffer;
  receivedAt: number;
  earlier?: { epoch: string; uid: number }[];
};
export type StoredFolder = { uidValidity: number; uidNext: number; messages: StoredMessage[] };

/** One user's mail. `expunged` are contents that were deleted by the service. */
export type LiarMailbox = {
  folders: Map<string, StoredFolder>;
  liar: Liar;
  expunged: string[];
  /** How often a folder was selected or listed. A look at it does both, or one of them. */
  looks: number;
  /** The folders whose STATUS was asked for. The service asks only for that of a folder that it has looked at. */
  asked: Set<string>;
  /** The folder at whose opening the connection is cut. */
  cutsAt?: string | undefined;
  connections: Set<Connection>;
};

export type LiarServer = {
  port: number;
  mailboxes: Map<string, LiarMailbox>;
  /** Tells those who idle in the folder how many messages it has. */
  announce(user: string, folder: string): void;
  /** Says this line on all connections of a user. */
  say(user: string, line: string): void;
  /** Cuts all connections of a user. */
  disconnect(user: string): void;
  stop(): Promise<void>;
};

type Connection = {
  socket: Socket;
  mailbox: LiarMailbox | undefined;
  folder: string | undefined;
  idleTag: string | undefined;
};
type Command = { tag: string; name: string; rest: string };
type Handler = (connection: Connection, command: Command, mailbox: LiarMailbox) => void;

export async function startLiarServer(): Promise<LiarServer> {
  const mailboxes = new Map<string, LiarMailbox>();
  const server = createServer((socket) => serve(socket, mailboxes));
  const port = await listenOn(server, 0, "0.0.0.0");
  return {
    port,
    mailboxes,
    announce(user, folder) {
      const mailbox = mailboxes.get(user);
      const count = mailbox?.folders.get(folder)?.messages.length ?? 0;
      for (const one of mailbox?.connections ?? [])
        if (one.idleTag !== undefined && one.folder === folder) write(one, `* ${count} EXISTS\r\n`);
    },
    say(user, line) {
      for (const one of mailboxes.get(user)?.connections ?? []) write(one, `${line}\r\n`);
    },
    disconnect(user) {
      for (const { socket } of mailboxes.get(user)?.connections ?? []) socket.destroy();
    },
    stop: () => stop(server, mailboxes),
  };
}

async function stop(server: Server, mailboxes: Map<string, LiarMailbox>): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  for (const { connections } of mailboxes.values()) for (const { socket } of connections) socket.destroy();
  await closed;
}

function serve(socket: Socket, mailboxes: Map<string, LiarMailbox>): void {
  const connection: Connection = { socket, mailbox: undefined, folder: undefined, idleTag: undefined };
  let pending = "";
  socket.on("error", () => undefined);
  socket.on("close", () => connection.mailbox?.connections.delete(connection));
  write(connection, "* OK [CAPABILITY IMAP4rev1 LITERAL+ NAMESPACE UIDPLUS IDLE] ready\r\n");
  socket.on("data", (chunk: Buffer) => {
    pending += chunk.toString("latin1");
    for (let end = pending.indexOf("\r\n"); end >= 0; end = pending.indexOf("\r\n")) {
      const line = pending.slice(0, end);
      pending = pending.slice(end + 2);
      handleLine(connection, line, mailboxes);
    }
  });
}

function handleLine(connection: Connection, line: string, mailboxes: Map<string, LiarMailbox>): void {
  if (connection.idleTag !== undefined && /^DONE$/i.test(line)) {
    write(connection, `${connection.idleTag} OK done\r\n`);
    connection.idleTag = undefined;
    return;
  }
  const match = /^(\S+) (UID )?(\S+) ?(.*)$/i.exec(line);
  if (!match) return;
  const [, tag = "", uid = "", name = "", rest = ""] = match;
  const command = { tag, name: (uid + name).toUpperCase(), rest };
  if (command.name === "LOGIN") return logIn(connection, tag, mailboxes.get(unquoted(rest.split(" ")[0] ?? "")));
  const { mailbox } = connection;
  if (command.name === "CAPABILITY") return capability(connection, command, mailbox);
  if (!mailbox) return write(connection, `${tag} NO log in first\r\n`);
  const handle = HANDLERS[command.name];
  if (!handle) return write(connection, `${tag} BAD unknown\r\n`);
  const act = () => handle(connection, command, mailbox);
  const fate = mailbox.liar.fateOf(command.name);
  if (fate === "hang") return undefined;
  if (fate === "refuse") return write(connection, `${tag} NO [SERVERBUG] not now\r\n`);
  if (fate === "cut") return void connection.socket.destroy();
  return act();
}

function logIn(connection: Connection, tag: string, mailbox: LiarMailbox | undefined): void {
  connection.mailbox = mailbox;
  mailbox?.connections.add(connection);
  write(connection, mailbox ? `${tag} OK in\r\n` : `${tag} NO [AUTHENTICATIONFAILED] who?\r\n`);
}

function capability(connection: Connection, { tag }: Command, mailbox: LiarMailbox | undefined): void {
  const idle = mailbox?.liar.traits.idle === false ? "" : " IDLE";
  write(connection, `* CAPABILITY IMAP4rev1 LITERAL+ NAMESPACE UIDPLUS${idle}\r\n${tag} OK\r\n`);
}

const HANDLERS: Record<string, Handler> = {
  NAMESPACE: (connection, { tag }) => write(connection, `* NAMESPACE (("" "/")) NIL NIL\r\n${tag} OK\r\n`),
  NOOP: (connection, { tag }, mailbox) => {
    const folder = mailbox.folders.get(connection.folder ?? "");
    write(connection, `${folder ? `* ${folder.messages.length} EXISTS\r\n` : ""}${tag} OK\r\n`);
  },
  LOGOUT: (connection, { tag }) => {
    write(connection, `* BYE\r\n${tag} OK\r\n`);
    connection.socket.end();
  },
  IDLE: (connection, { tag }) => {
    connection.idleTag = tag;
    write(connection, "+ idling\r\n");
  },
  LIST: (connection, { tag, rest }, mailbox) => {
    const wanted = /"?([^" ]*)"?(?: RETURN .*)?$/.exec(rest)?.[1] ?? "*";
    const names = [...mailbox.folders.keys()].filter((name) => wanted === "*" || name === wanted);
    write(connection, `${names.map((name) => `* LIST () "/" "${name}"\r\n`).join("")}${tag} OK\r\n`);
  },
  LSUB: (connection, { tag }) => write(connection, `${tag} OK\r\n`),
  SELECT: (connection, { tag, rest }, mailbox) => {
    mailbox.looks++;
    const name = unquoted(rest);
    const folder = mailbox.folders.get(name);
    if (mailbox.cutsAt === name) return void connection.socket.destroy();
    if (!folder || mailbox.liar.traits.locked === name) return write(connection, `${tag} NO [NOPERM] closed\r\n`);
    connection.folder = name;
    const { uidValidity, uidNext } = mailbox.liar.numbersOf(folder);
    const codes = [
      uidValidity === undefined ? "" : `* OK [UIDVALIDITY ${uidValidity}] v\r\n`,
      uidNext === undefined ? "" : `* OK [UIDNEXT ${uidNext}] n\r\n`,
    ];
    write(connection, `* FLAGS (\\Seen)\r\n* ${folder.messages.length} EXISTS\r\n${codes.join("")}${tag} OK\r\n`);
  },
  STATUS: (connection, { tag, rest }, mailbox) => {
    const name = unquoted(rest.replace(/ \(.*$/, ""));
    const folder = mailbox.folders.get(name);
    if (!folder) return write(connection, `${tag} NO none\r\n`);
    mailbox.asked.add(name);
    const { uidValidity, uidNext } = mailbox.liar.numbersOf(folder);
    const items = [
      `MESSAGES ${folder.messages.length}`,
      ...(uidNext === undefined ? [] : [`UIDNEXT ${uidNext}`]),
      ...(uidValidity === undefined ? [] : [`UIDVALIDITY ${uidValidity}`]),
    ];
    write(connection, `* STATUS "${name}" (${items.join(" ")})\r\n${tag} OK\r\n`);
  },
  SEARCH: (connection, { tag, rest }, mailbox) => {
    const all = selected(connection, mailbox).messages;
    const found = search(connection, mailbox, rest).map((message) => all.indexOf(message) + 1);
    write(connection, `* SEARCH ${found.join(" ")}\r\n${tag} OK\r\n`);
  },
  "UID SEARCH": (connection, { tag, rest }, mailbox) => {
    const found = search(connection, mailbox, rest).map(({ uid }) => uid);
    write(connection, `* SEARCH ${found.join(" ")}\r\n${tag} OK\r\n`);
  },
  "UID FETCH": (connection, command, mailbox) => {
    const [set = ""] = command.rest.split(" ", 1);
    fetch(connection, command, mailbox, inSet(selected(connection, mailbox), set));
  },
  FETCH: (connection, command, mailbox) => {
    const number = Number(command.rest.split(" ", 1)[0]);
    fetch(connection, command, mailbox, selected(connection, mailbox).messages.slice(number - 1, number));
  },
  "UID STORE": (connection, { tag }) => write(connection, `${tag} OK\r\n`),
  "UID EXPUNGE": (connection, { tag, rest }, mailbox) => {
    const folder = selected(connection, mailbox);
    const gone = inSet(folder, rest);
    mailbox.expunged.push(...gone.map(({ content }) => content));
    folder.messages = folder.messages.filter((message) => !gone.includes(message));
    write(connection, `${tag} OK\r\n`);
  },
};

function search(connection: Connection, mailbox: LiarMailbox, rest: string): StoredMessage[] {
  const folder = selected(connection, mailbox);
  const set = /UID ([\d:,*]+)/i.exec(rest)?.[1];
  const [, sent = "", , since] = /\b(SENT)?SINCE ("?)(\d+-\w+-\d+)\2/i.exec(rest) ?? [];
  const known = set === undefined ? folder.messages : inSet(folder, set);
  const day = since === undefined ? -Infinity : Date.parse(since);
  const { liar } = mailbox;
  const dateOf = (message: StoredMessage) => (sent === "" ? (liar.dateOf(message) ?? Infinity) : message.receivedAt);
  return known.filter((message) => dateOf(message) >= day && !liar.hidesFromSearch(message));
}

function fetch(connection: Connection, { tag, rest }: Command, mailbox: LiarMailbox, messages: StoredMessage[]): void {
  const items = rest.slice(rest.indexOf(" ") + 1);
  const folder = selected(connection, mailbox);
  if (!/BODY/i.test(items)) mailbox.looks++;
  const late: Buffer[] = [];
  for (const message of messages) {
    const rows = mailbox.liar.rowsOf(message, folder.messages.indexOf(message) + 1, items);
    if (rows === "cut") return void connection.socket.destroy();
    if (rows === "hang") return;
    if (rows === "refuse") return write(connection, `${tag} NO [SERVERBUG] this one not\r\n`);
    for (const row of rows.cut === undefined ? rows.now : [rows.now[0]?.subarray(0, rows.cut) ?? Buffer.alloc(0)])
      write(connection, row);
    if (rows.cut !== undefined) return void connection.socket.end(() => connection.socket.destroy());
    late.push(...rows.late);
  }
  write(connection, `${tag} OK\r\n`);
  for (const row of late) write(connection, row);
}

function selected({ folder }: Connection, { folders }: LiarMailbox): StoredFolder {
  return folders.get(folder ?? "") ?? { uidValidity: 1, uidNext: 1, messages: [] };
}

function inSet({ messages }: StoredFolder, set: string): StoredMessage[] {
  const last = messages.at(-1)?.uid ?? 0;
  const number = (text: string | undefined) => (text === "*" ? last : Number(text));
  const ranges = set.split(",").map((part) => {
    const [from, to] = part.split(":");
    const ends = [number(from), to === undefined ? number(from) : number(to)];
    return [Math.min(...ends), Math.max(...ends)] as const;
  });
  return messages.filter(({ uid }) => ranges.some(([from, to]) => uid >= from && uid <= to));
}

function unquoted(text: string): string {
  return text.trim().replace(/^"(.*)"$/, "$1");
}

function write({ socket }: Connection, data: string | Buffer): void {
  if (!socket.destroyed) socket.write(data);
}
