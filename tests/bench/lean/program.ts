/**
 * A lean IMAP server in a process of its own: TLS only, one folder, every user and password, and mail only from the
 * bench. It holds very many idle connections in little memory. Reads lines of JSON orders, answers each with a line.
 */
import { createInterface } from "node:readline";
import { createServer, type TLSSocket } from "node:tls";
import { makeCertificates } from "../../servers/certificates.ts";
import { listenOn } from "../../servers/ports.ts";
import { numberedMail } from "../sink.ts";
import type { LeanCounts, LeanOrder, LeanStart, Numbered } from "./server.ts";

/** `loginTag` while the next line is the login. */
type Connection = { user: string; idleTag: string; loginTag: string; partial: string };

const CAPABILITIES = "IMAP4rev1 IDLE ID AUTH=PLAIN";
const UIDVALIDITY = 1;
const NOTHING = Buffer.alloc(0);

const connections = new Map<TLSSocket, Connection>();
/** The mail of each user that has any; the uid of a message is its place, from 1. */
const mails = new Map<string, Buffer[]>();
const mailsOf = (user: string) => mails.get(user) ?? [];
let accepted = 0;

/** All handlers are shared: a closure for each connection would cost more than what it holds. */
function accept(socket: TLSSocket): void {
  accepted++;
  connections.set(socket, { user: "", idleTag: "", loginTag: "", partial: "" });
  socket.setNoDelay(true);
  socket.on("data", onData);
  socket.on("close", onClose);
  socket.on("error", onError);
  socket.write(`* OK [CAPABILITY ${CAPABILITIES}] ready\r\n`);
}

function onClose(this: TLSSocket): void {
  connections.delete(this);
}

function onError(this: TLSSocket): void {
  this.destroy();
}

function onData(this: TLSSocket, chunk: Buffer): void {
  const connection = connections.get(this);
  if (!connection) return;
  const lines = (connection.partial + chunk.toString("latin1")).split("\r\n");
  connection.partial = lines.pop() ?? "";
  for (const line of lines) this.write(answer(connection, line));
}

/** The whole answer to one line of the client. A line that is not known gets BAD. */
function answer(connection: Connection, line: string): string | Buffer {
  if (connection.loginTag !== "") return logIn(connection, line);
  const [tag = "", first = "", second = ""] = line.split(" ");
  if (tag.toUpperCase() === "DONE") {
    const ended = connection.idleTag;
    connection.idleTag = "";
    return `${ended} OK done\r\n`;
  }
  const name = (first.toUpperCase() === "UID" ? `UID ${second}` : first).toUpperCase();
  const rest = line.slice(tag.length + 1 + name.length + 1);
  return COMMANDS[name]?.(connection, tag, rest) ?? `${tag} BAD unknown\r\n`;
}

function logIn(connection: Connection, line: string): string {
  const tag = connection.loginTag;
  const [, user = ""] = Buffer.from(line, "base64").toString().split("\0");
  Object.assign(connection, { user, loginTag: "" });
  return `${tag} OK [CAPABILITY ${CAPABILITIES}] done\r\n`;
}

const COMMANDS: Record<string, (connection: Connection, tag: string, rest: string) => string | Buffer> = {
  CAPABILITY: (_, tag) => `* CAPABILITY ${CAPABILITIES}\r\n${tag} OK done\r\n`,
  ID: (_, tag) => `* ID NIL\r\n${tag} OK done\r\n`,
  NOOP: (_, tag) => `${tag} OK done\r\n`,
  LOGOUT: (_, tag) => `* BYE\r\n${tag} OK done\r\n`,
  LIST: (_, tag) => `* LIST () "/" INBOX\r\n${tag} OK done\r\n`,
  LSUB: (_, tag) => `* LSUB () "/" INBOX\r\n${tag} OK done\r\n`,
  AUTHENTICATE(connection, tag) {
    connection.loginTag = tag;
    return "+ \r\n";
  },
  SELECT({ user }, tag) {
    const count = mailsOf(user).length;
    const codes = `* OK [UIDVALIDITY ${UIDVALIDITY}]\r\n* OK [UIDNEXT ${count + 1}]\r\n`;
    return `* FLAGS ()\r\n* ${count} EXISTS\r\n${codes}${tag} OK [READ-WRITE] done\r\n`;
  },
  STATUS({ user }, tag) {
    const count = mailsOf(user).length;
    const items = `MESSAGES ${count} UIDNEXT ${count + 1} UIDVALIDITY ${UIDVALIDITY}`;
    return `* STATUS INBOX (${items})\r\n${tag} OK done\r\n`;
  },
  IDLE(connection, tag) {
    connection.idleTag = tag;
    return "+ idling\r\n";
  },
  "UID SEARCH"({ user }, tag, rest) {
    const [, set = "1:*"] = /UID (\S+)/.exec(rest) ?? [];
    const uids = uidsOf(set, mailsOf(user).length);
    return `* SEARCH ${uids.join(" ")}\r\n${tag} OK done\r\n`;
  },
  "UID FETCH"({ user }, tag, rest) {
    const all = mailsOf(user);
    const wantsContent = rest.includes("BODY.PEEK[]");
    const rows = uidsOf(rest.slice(0, rest.indexOf(" ")), all.length).map((uid) => row(all, uid, wantsContent));
    return Buffer.concat([...rows, Buffer.from(`${tag} OK done\r\n`)]);
  },
};

/** The uids that a set names, of those that there are. */
function uidsOf(set: string, last: number): number[] {
  const uids = new Set<number>();
  for (const part of set.split(",")) {
    const [from = 0, to = from] = part.split(":").map((end) => (end === "*" ? last : Number(end)));
    for (let uid = Math.max(1, Math.min(from, to)); uid <= Math.min(last, Math.max(from, to)); uid++) uids.add(uid);
  }
  return [...uids];
}

function row(all: Buffer[], uid: number, wantsContent: boolean): Buffer {
  const raw = all[uid - 1] ?? Buffer.alloc(0);
  const items = `UID ${uid} FLAGS () INTERNALDATE "${internalDate()}" RFC822.SIZE ${raw.length}`;
  if (!wantsContent) return Buffer.from(`* ${uid} FETCH (${items})\r\n`);
  return Buffer.concat([Buffer.from(`* ${uid} FETCH (${items} BODY[] {${raw.length}}\r\n`), raw, Buffer.from(")\r\n")]);
}

function internalDate(): string {
  const [, day = "", month = "", year = "", time = ""] = new Date().toUTCString().split(" ");
  return `${day}-${month}-${year} ${time} +0000`;
}

function deliver(user: string, ...raws: Buffer[]): void {
  const all = mailsOf(user);
  all.push(...raws);
  mails.set(user, all);
  for (const [socket, connection] of connections)
    if (connection.user === user && connection.idleTag !== "") socket.write(`* ${all.length} EXISTS\r\n`);
}

function deliverNumbered({ users, first, each, bytes }: Numbered): void {
  for (const [index, user] of users.entries()) {
    mails.get(user)?.fill(NOTHING);
    deliver(user, ...Array.from({ length: each }, (_, n) => numberedMail(first + index * each + n, bytes)));
  }
}

const { ca, server: keyPair } = await makeCertificates();
const server = createServer(keyPair, accept);
server.on("tlsClientError", (_error, socket) => socket.destroy());
const port = await listenOn(server, 0, "127.0.0.1");
const say = (answered: LeanStart | LeanCounts) => process.stdout.write(`${JSON.stringify(answered)}\n`);
const counts = (): LeanCounts => ({
  open: connections.size,
  idling: [...connections.values()].filter(({ idleTag }) => idleTag !== "").length,
  accepted,
});
say({ port, ca });

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as LeanOrder;
  for (const { user, mail } of order.deliver ?? []) deliver(user, Buffer.from(mail, "base64"));
  if (order.numbered) deliverNumbered(order.numbered);
  say(counts());
}
process.exit();
