/** An in-process POP3 server for tests (RFC 1939, 2449): one session per maildrop, and faults that real servers have. */
import { createHash } from "node:crypto";
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, TLSSocket } from "node:tls";
import { setTimeout as sleep } from "node:timers/promises";
import { makeCertificates } from "./certificates.ts";

export type Pop3Message = { uidl: string; raw: Buffer };

/** Each is off by default and can be changed at any time. */
export type Pop3Faults = {
  /** UIDL is not known. */
  noUidl?: boolean;
  noTop?: boolean;
  /** APOP is not known, although the greeting has a timestamp. */
  noApop?: boolean;
  noCapa?: boolean;
  noPipelining?: boolean;
  /** The words after -ERR to every login. */
  refuseLogin?: string;
  /** The words instead of a greeting. */
  refuse?: string;
  /** The connection ends instead of an answer to this command. */
  dropAt?: string;
  /** The connection ends after the answer to this command. */
  dropAfter?: string;
  /** Before each answer. */
  delayMs?: number;
  /** The words after -ERR to RETR of the message with this unique id. */
  refuseMessage?: { uidl: string; words: string };
  /** DELE of the message with this unique id is refused. */
  refuseDeletion?: string;
  /** The list of sizes has no row for the message with this unique id. */
  leaveOutOfList?: string;
  /** Neither list has a row for the message with this unique id. */
  leaveOutOfBothLists?: string;
  /** The list of unique ids has another id for the message with the id `uidl`. */
  misname?: { uidl: string; as: string };
  /** LIST and UIDL with a number are answered with the whole list. */
  ignoreNumbers?: boolean;
  /** Words that follow the answer to STLS in the same packet. */
  injectAfterStls?: string;
};

export type Pop3Server = {
  name: string;
  host: string;
  port: number;
  tlsPort: number;
  ca: string;
  faults: Pop3Faults;
  /** Every command of every session, in order, passwords and all. */
  commands: string[];
  /** Logins that were accepted or refused. */
  logins: { user: string; ok: boolean }[];
  /** Sessions open now, and the most there were at a time in one maildrop. */
  open(): { now: number; refusedAsInUse: number };
  addUser(user: string, password: string): void;
  /** The password, or the token, that is accepted from now on. */
  setPassword(user: string, password: string): void;
  /** Puts a message into a maildrop; sessions that are open do not see it. */
  add(user: string, raw: Buffer | string, uidl?: string): void;
  messages(user: string): Pop3Message[];
  remove(user: string, uidl: string): void;
  /** Gives every message another unique id, as after a restore. */
  renumber(user: string): void;
  disconnectAll(): void;
  stop(): Promise<void>;
};

type Maildrop = { password: string; list: Pop3Message[]; locked: boolean };

export async function startPop3Server(faults: Pop3Faults = {}): Promise<Pop3Server> {
  const { ca, server: certificate } = await makeCertificates();
  const drops = new Map<string, Maildrop>();
  const sockets = new Set<Socket>();
  let count = 0;
  let refusedAsInUse = 0;
  const commands: string[] = [];
  const logins: Pop3Server["logins"] = [];
  const world: World = {
    drops,
    faults,
    commands,
    logins,
    certificate,
    inUse: () => refusedAsInUse++,
    sockets,
  };
  const plain = createServer((socket) => void serve(world, socket));
  const secure = createTlsServer(
    { key: certificate.key, cert: certificate.cert },
    (socket) => void serve(world, socket),
  );
  const [port, tlsPort] = await Promise.all([listening(plain), listening(secure)]);
  const dropOf = (user: string): Maildrop => {
    const drop = drops.get(user);
    if (!drop) throw new Error(`There is no user ${user}`);
    return drop;
  };
  const cutAll = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    name: "the scripted POP3 server",
    host: "127.0.0.1",
    port,
    tlsPort,
    ca,
    faults,
    commands,
    logins,
    open: () => ({ now: [...drops.values()].filter(({ locked }) => locked).length, refusedAsInUse }),
    addUser: (user, password) => void drops.set(user, { password, list: [], locked: false }),
    setPassword(user, password) {
      const drop = drops.get(user);
      if (drop) drop.password = password;
    },
    add: (user, raw, uidl = `id-${++count}`) => void dropOf(user).list.push({ uidl, raw: Buffer.from(raw) }),
    messages: (user) => dropOf(user).list,
    remove: (user, uidl) => {
      const drop = dropOf(user);
      drop.list = drop.list.filter((one) => one.uidl !== uidl);
    },
    renumber: (user) => {
      for (const one of dropOf(user).list) one.uidl = `again-${++count}`;
    },
    disconnectAll: cutAll,
    async stop() {
      cutAll();
      await Promise.all([plain, secure].map((one) => new Promise((resolve) => one.close(resolve))));
    },
  };
}

type World = {
  drops: Map<string, Maildrop>;
  faults: Pop3Faults;
  commands: string[];
  logins: Pop3Server["logins"];
  certificate: { key: string; cert: string };
  inUse: () => void;
  sockets: Set<Socket>;
};

function listening(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address ? address.port : 0);
    });
  });
}

type Session = {
  socket: Socket;
  stamp: string;
  user: string;
  drop?: Maildrop | undefined;
  /** What this session sees. */
  list: Pop3Message[];
  deleted: Set<number>;
  /** What a SASL exchange waits for. */
  waitsFor?: ((line: string) => string) | undefined;
};

async function serve(world: World, socket: Socket): Promise<void> {
  const session: Session = { socket, stamp: `<${Date.now()}.1@test>`, user: "", list: [], deleted: new Set() };
  attach(world, session);
  if (world.faults.refuse !== undefined) return void socket.end(`-ERR ${world.faults.refuse}\r\n`);
  socket.write(`+OK ready ${session.stamp}\r\n`);
}

function attach(world: World, session: Session): void {
  const { socket } = session;
  world.sockets.add(socket);
  socket.on("error", () => undefined);
  socket.on("close", () => {
    world.sockets.delete(socket);
    // A session that ends without QUIT deletes nothing.
    if (session.socket === socket && session.drop) session.drop.locked = false;
  });
  let text = "";
  let turn = Promise.resolve();
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    const lines = text.split("\r\n");
    text = lines.pop() ?? "";
    for (const line of lines) turn = turn.then(() => answer(world, session, line));
  });
}

async function answer(world: World, session: Session, line: string): Promise<void> {
  const { faults } = world;
  const { socket } = session;
  if (socket.destroyed) return;
  const [word = "", ...rest] = line.split(" ");
  const verb = word.toUpperCase();
  world.commands.push(line);
  if (faults.delayMs) await sleep(faults.delayMs);
  if (faults.dropAt === verb) return void socket.destroy();
  if (verb === "STLS") return startTls(world, session);
  const said = session.waitsFor ? continued(session, line) : respond(world, session, verb, rest.join(" "));
  const bytes = typeof said === "string" ? Buffer.from(`${said}\r\n`, "latin1") : said;
  if (faults.dropAfter === verb) socket.write(bytes, () => socket.destroy());
  else if (verb === "QUIT") socket.end(bytes);
  else socket.write(bytes);
}

function continued(session: Session, line: string): string {
  const next = session.waitsFor;
  session.waitsFor = undefined;
  return next?.(line) ?? "-ERR";
}

function startTls(world: World, session: Session): void {
  const { socket } = session;
  socket.removeAllListeners("data");
  socket.write(`+OK begin\r\n${world.faults.injectAfterStls ?? ""}`);
  const secure = new TLSSocket(socket, { isServer: true, key: world.certificate.key, cert: world.certificate.cert });
  session.socket = secure;
  attach(world, session);
}

function respond(world: World, session: Session, verb: string, rest: string): string | Buffer {
  const { faults } = world;
  if (verb === "CAPA") return capabilities(faults);
  if (verb === "QUIT") return quit(session);
  if (!session.drop) return authorize(world, session, verb, rest);
  const command = COMMANDS[verb];
  if (!command || (verb === "UIDL" && faults.noUidl) || (verb === "TOP" && faults.noTop)) return "-ERR unknown command";
  const ignores = faults.ignoreNumbers && (verb === "LIST" || verb === "UIDL");
  return command(session, ignores ? "" : rest, faults);
}

function capabilities(faults: Pop3Faults): string {
  if (faults.noCapa) return "-ERR unknown command";
  const list = ["USER", "SASL PLAIN XOAUTH2", "STLS", "RESP-CODES", "AUTH-RESP-CODE"];
  if (!faults.noUidl) list.push("UIDL");
  if (!faults.noTop) list.push("TOP");
  if (!faults.noPipelining) list.push("PIPELINING");
  return ["+OK", ...list, "."].join("\r\n");
}

function authorize(world: World, session: Session, verb: string, rest: string): string {
  if (verb === "USER") {
    session.user = rest;
    return "+OK";
  }
  if (verb === "PASS") return logIn(world, session, session.user, (password) => password === rest);
  if (verb === "APOP" && world.faults.noApop) return "-ERR unknown command";
  if (verb === "APOP") {
    const [user = "", digest] = rest.split(" ");
    const digestOf = (password: string) =>
      createHash("md5")
        .update(session.stamp + password)
        .digest("hex");
    return logIn(world, session, user, (password) => digestOf(password) === digest);
  }
  if (verb === "AUTH" && rest === "XOAUTH2") {
    session.waitsFor = (line) => {
      const [, user = "", token] =
        /^user=(.*)\nauth=Bearer (.*)\n\n$/.exec(decoded(line).replaceAll(String.fromCodePoint(1), "\n")) ?? [];
      const known = world.drops.get(user)?.password === token;
      if (known) return logIn(world, session, user, () => true);
      session.waitsFor = () => logIn(world, session, user, () => false);
      return `+ ${Buffer.from('{"status":"400"}').toString("base64")}`;
    };
    return "+ ";
  }
  if (verb === "AUTH" && rest === "PLAIN") {
    session.waitsFor = (line) => {
      const [, user = "", pass] = decoded(line).split("\0");
      return logIn(world, session, user, (password) => password === pass);
    };
    return "+ ";
  }
  return "-ERR not logged in";
}

function decoded(line: string): string {
  return Buffer.from(line, "base64").toString();
}

function logIn(world: World, session: Session, user: string, proves: (password: string) => boolean): string {
  const drop = world.drops.get(user);
  const refusal = world.faults.refuseLogin ?? (drop && proves(drop.password) ? undefined : "[AUTH] wrong");
  world.logins.push({ user, ok: refusal === undefined });
  if (refusal !== undefined || !drop) return `-ERR ${refusal}`;
  if (drop.locked) {
    world.inUse();
    return "-ERR [IN-USE] the maildrop is locked";
  }
  drop.locked = true;
  Object.assign(session, { drop, list: [...drop.list], deleted: new Set() });
  return "+OK welcome";
}

function quit({ drop, list, deleted }: Session): string {
  if (drop) {
    const gone = new Set([...deleted].map((index) => list[index]));
    drop.list = drop.list.filter((one) => !gone.has(one));
    drop.locked = false;
  }
  return "+OK bye";
}

type Command = (session: Session, rest: string, faults: Pop3Faults) => string | Buffer;

const COMMANDS: Record<string, Command> = {
  STAT: (session) =>
    `+OK ${present(session).length} ${present(session).reduce((sum, [, one]) => sum + one.raw.length, 0)}`,
  LIST: (session, rest, { leaveOutOfList, leaveOutOfBothLists }) =>
    table(session, rest, ({ uidl, raw }) =>
      rest === "" && (uidl === leaveOutOfList || uidl === leaveOutOfBothLists) ? undefined : String(raw.length),
    ),
  UIDL: (session, rest, { leaveOutOfBothLists, misname }) =>
    table(session, rest, ({ uidl }) => {
      if (rest !== "") return uidl;
      if (uidl === leaveOutOfBothLists) return undefined;
      return uidl === misname?.uidl ? misname.as : uidl;
    }),
  NOOP: () => "+OK",
  RSET: (session) => {
    session.deleted.clear();
    return "+OK";
  },
  DELE: (session, rest, { refuseDeletion }) => {
    const found = at(session, rest);
    if (!found) return "-ERR no such message";
    if (found.uidl === refuseDeletion) return "-ERR not this one";
    session.deleted.add(Number(rest) - 1);
    return "+OK";
  },
  RETR: (session, rest, { refuseMessage }) => {
    const found = at(session, rest);
    if (!found) return "-ERR no such message";
    return found.uidl === refuseMessage?.uidl ? `-ERR ${refuseMessage.words}` : block(found.raw);
  },
  TOP: (session, rest) => {
    const found = at(session, rest.split(" ")[0] ?? "");
    if (!found) return "-ERR no such message";
    const end = found.raw.indexOf("\r\n\r\n");
    return block(end < 0 ? found.raw : found.raw.subarray(0, end + 4));
  },
};

function present({ list, deleted }: Session): [number, Pop3Message][] {
  return [...list.entries()].filter(([index]) => !deleted.has(index));
}

function at(session: Session, number: string): Pop3Message | undefined {
  const index = Number(number) - 1;
  return session.deleted.has(index) ? undefined : session.list[index];
}

/** One row for the message of this number, or a row for each. */
function table(session: Session, number: string, say: (one: Pop3Message) => string | undefined): string {
  const row = (index: number, one: Pop3Message) => `${index + 1} ${say(one)}`;
  const asked = at(session, number);
  if (number !== "") return asked ? `+OK ${row(Number(number) - 1, asked)}` : "-ERR no such message";
  const told = present(session).filter(([, one]) => say(one) !== undefined);
  return [`+OK ${told.length} messages`, ...told.map(([index, one]) => row(index, one)), "."].join("\r\n");
}

function block(raw: Buffer): Buffer {
  const text = `\r\n${raw.toString("latin1")}`.replaceAll("\r\n.", "\r\n..").slice(2);
  return Buffer.from(`+OK\r\n${text}${text.endsWith("\r\n") || text === "" ? "" : "\r\n"}.\r\n`, "latin1");
}
