/**
 * A POP3 server for the property test: many maildrops behind one port, one for each address of this machine. It lies by chance: a session does not see a
 * message, a list leaves it out or names it wrong, content comes short, empty, cut, or not at all.
 */
import { createServer, type Socket } from "node:net";
import type { Random } from "../chaos/random.ts";
import { listenOn } from "../servers/ports.ts";

export type Pop3Traits = {
  /** Whether there are unique ids. */
  ids: boolean;
  top: boolean;
  pipelining: boolean;
  /** LIST and UIDL with a number are answered with the whole list. */
  ignoresNumbers: boolean;
  sizes: "true" | "zero" | "more" | "less";
};

/** What the server does about a message for good; such a message can only be parked. */
export type Pop3Grudge = "cut" | "hang" | "refuse" | "empty";
const GRUDGES: readonly Pop3Grudge[] = ["cut", "hang", "refuse", "empty"];

export type Pop3Message = { content: string; raw: Buffer; id: string; grudge?: Pop3Grudge };

export type LiarMaildrop = {
  traits: Pop3Traits;
  messages: Pop3Message[];
  lying: boolean;
  /** Contents that were deleted by the service. */
  deleted: string[];
  /** How often the maildrop was listed. */
  looks: number;
  sockets: Set<Socket>;
  /** Whether to lie this time about this; each matter is lied about twice at most, because a server that lies for ever cannot be told from one that is right. */
  lies(about: string, chance: number): boolean;
  random: Random;
};

export type LiarPop3Server = {
  port: number;
  /** By the address that clients connect to. */
  maildrops: Map<string, LiarMaildrop>;
  stop(): Promise<void>;
};

const MOST_LIES = 2;

export function createMaildrop(random: Random, traits: Pop3Traits): LiarMaildrop {
  const told = new Map<string, number>();
  const maildrop: LiarMaildrop = {
    traits,
    messages: [],
    lying: false,
    deleted: [],
    looks: 0,
    sockets: new Set(),
    random,
    lies(about, chance) {
      const times = told.get(about) ?? 0;
      if (!maildrop.lying || times >= MOST_LIES || random.next() >= chance) return false;
      told.set(about, times + 1);
      return true;
    },
  };
  return maildrop;
}

export function pickGrudge(random: Random): Pop3Grudge {
  return random.pick(GRUDGES);
}

export async function startLiarPop3Server(): Promise<LiarPop3Server> {
  const maildrops = new Map<string, LiarMaildrop>();
  const server = createServer((socket) => {
    const maildrop = maildrops.get(socket.localAddress ?? "");
    if (maildrop) serve(socket, maildrop);
    else socket.destroy();
  });
  const port = await listenOn(server, 0, "0.0.0.0");
  return {
    port,
    maildrops,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const { sockets } of maildrops.values()) for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

type Session = {
  socket: Socket;
  isOpen: boolean;
  /** Whether it left a command without an answer; then it answers no later one either, because an answer has no other name than its place. */
  isHung: boolean;
  /** What this session sees. */
  seen: Pop3Message[];
  marked: Set<Pop3Message>;
};

function serve(socket: Socket, maildrop: LiarMaildrop): void {
  const session: Session = { socket, isOpen: false, isHung: false, seen: [], marked: new Set() };
  maildrop.sockets.add(socket);
  let pending = "";
  socket.on("error", () => undefined);
  socket.on("close", () => maildrop.sockets.delete(socket));
  socket.write("+OK ready\r\n");
  socket.on("data", (chunk: Buffer) => {
    pending += chunk.toString("latin1");
    for (
      let end = pending.indexOf("\r\n");
      end >= 0 && !socket.destroyed && !session.isHung;
      end = pending.indexOf("\r\n")
    ) {
      const [name = "", rest = ""] = pending.slice(0, end).split(" ");
      pending = pending.slice(end + 2);
      answer(session, { name: name.toUpperCase(), rest }, maildrop);
    }
  });
}

type Command = { name: string; rest: string };

function answer(session: Session, { name, rest }: Command, maildrop: LiarMaildrop): void {
  if (name === "USER") return write(session, "+OK\r\n");
  if (name === "CAPA") return write(session, capabilities(maildrop.traits));
  if (maildrop.lies(`command ${name}`, 0.03)) return commitFate(session, maildrop.random.pick(FATES));
  if (name === "PASS") return logIn(session, maildrop);
  if (!session.isOpen) return write(session, "-ERR log in first\r\n");
  const respond = COMMANDS[name];
  if (respond) respond(session, rest, maildrop);
  else write(session, "-ERR unknown\r\n");
}

const FATES = ["cut", "hang", "refuse", "in use"] as const;

function commitFate(session: Session, fate: (typeof FATES)[number]): void {
  const { socket } = session;
  if (fate === "cut") socket.destroy();
  else if (fate === "hang") session.isHung = true;
  else socket.write(fate === "refuse" ? "-ERR not now\r\n" : "-ERR [IN-USE] busy\r\n");
}

function capabilities({ ids, top, pipelining }: Pop3Traits): string {
  const lines = ["USER", ...(ids ? ["UIDL"] : []), ...(top ? ["TOP"] : []), ...(pipelining ? ["PIPELINING"] : [])];
  return `+OK\r\n${lines.join("\r\n")}\r\n.\r\n`;
}

function logIn(session: Session, maildrop: LiarMaildrop): void {
  session.isOpen = true;
  session.seen = maildrop.messages.filter(({ content }) => !maildrop.lies(`hide ${content}`, 0.1));
  write(session, "+OK in\r\n");
}

type Handler = (session: Session, rest: string, maildrop: LiarMaildrop) => void;

const COMMANDS: Record<string, Handler> = {
  NOOP: (session) => write(session, "+OK\r\n"),
  STAT: (session) => write(session, `+OK ${session.seen.length} 0\r\n`),
  LIST(session, rest, maildrop) {
    const one = session.seen[Number(rest) - 1];
    if (rest !== "" && !maildrop.traits.ignoresNumbers)
      return write(session, one ? `+OK ${rest} ${sizeOf(one, maildrop)}\r\n` : "-ERR no such message\r\n");
    if (rest === "") maildrop.looks++;
    const rows = session.seen.flatMap((message, at) =>
      maildrop.lies(`list ${message.content}`, 0.07) ? [] : [`${at + 1} ${sizeOf(message, maildrop)}\r\n`],
    );
    return write(session, `+OK\r\n${rows.join("")}.\r\n`);
  },
  UIDL(session, rest, maildrop) {
    if (!maildrop.traits.ids) return write(session, "-ERR unknown\r\n");
    const one = session.seen[Number(rest) - 1];
    if (rest !== "" && !maildrop.traits.ignoresNumbers)
      return write(session, one ? `+OK ${rest} ${one.id}\r\n` : "-ERR no such message\r\n");
    const rows = session.seen.flatMap(({ content, id }, at) => {
      if (maildrop.lies(`uidl ${content}`, 0.07)) return [];
      const wrong = maildrop.lies(`name ${content}`, 0.03) ? maildrop.random.pick(session.seen).id : id;
      return [`${at + 1} ${wrong}\r\n`];
    });
    return write(session, `+OK\r\n${rows.join("")}.\r\n`);
  },
  TOP(session, rest, maildrop) {
    const message = session.seen[Number(rest) - 1];
    if (!maildrop.traits.top || !message) return write(session, "-ERR no such message\r\n");
    return write(session, block(headOf(message.raw)));
  },
  RETR(session, rest, maildrop) {
    const message = session.seen[Number(rest) - 1];
    if (!message) return write(session, "-ERR no such message\r\n");
    return giveContent(session, message, maildrop);
  },
  DELE(session, rest) {
    const message = session.seen[Number(rest) - 1];
    if (message) session.marked.add(message);
    return write(session, message ? "+OK\r\n" : "-ERR no such message\r\n");
  },
  QUIT(session, _, maildrop) {
    for (const message of session.marked) {
      if (!maildrop.messages.includes(message)) continue;
      maildrop.messages = maildrop.messages.filter((one) => one !== message);
      maildrop.deleted.push(message.content);
    }
    session.socket.end("+OK bye\r\n");
  },
};

function sizeOf({ raw }: Pop3Message, { traits: { sizes } }: LiarMaildrop): number {
  if (sizes === "zero") return 0;
  return raw.length + (sizes === "more" ? 7 : sizes === "less" ? -7 : 0);
}

/** The header with the blank line after it. */
export function headOf(raw: Buffer): Buffer {
  return raw.subarray(0, raw.indexOf("\r\n\r\n") + 4);
}

/** The content, or what is told in place of it. */
function giveContent(session: Session, { content, raw, grudge }: Pop3Message, maildrop: LiarMaildrop): void {
  const { random } = maildrop;
  if (grudge === "hang") return void (session.isHung = true);
  if (grudge === "cut" || maildrop.lies(`cut ${content}`, 0.05)) return void session.socket.destroy();
  if (grudge === "refuse" || maildrop.lies(`refuse ${content}`, 0.05)) return write(session, "-ERR this one not\r\n");
  if (grudge === "empty" || maildrop.lies(`empty ${content}`, 0.05)) return write(session, "+OK\r\n.\r\n");
  // Where sizes are false, nobody could tell that content is short.
  const isShort = maildrop.traits.sizes === "true" && maildrop.lies(`short ${content}`, 0.05);
  const whole = block(isShort ? raw.subarray(0, random.whole(0, raw.length - 3)) : raw);
  if (!maildrop.lies(`within ${content}`, 0.05)) return write(session, whole);
  session.socket.end(whole.subarray(0, random.whole(0, whole.length - 4)), () => session.socket.destroy());
}

function block(content: Buffer): Buffer {
  const text = content.toString("latin1").replaceAll(/^\./gm, "..");
  return Buffer.from(`+OK\r\n${text}${text === "" || text.endsWith("\r\n") ? "" : "\r\n"}.\r\n`, "latin1");
}

function write({ socket }: Session, data: string | Buffer): void {
  if (!socket.destroyed) socket.write(data);
}
