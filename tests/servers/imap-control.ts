/**
 * A lean IMAP client for the tests' own use: puts messages into a server in large batches and looks at what is there.
 * One connection per user is kept for a while, so that thousands of calls are cheap.
 */
import { connect, type Socket } from "node:net";
import { ByteReader } from "./imap/reader.ts";
import { encodeFolderName } from "./imap/store.ts";

/** What the client can do on behalf of a user; every call logs in again if the connection was lost. */
export type ImapControl = {
  append(user: string, folder: string, raws: (Buffer | string)[]): Promise<number[]>;
  createFolder(user: string, folder: string): Promise<void>;
  expunge(user: string, folder: string, uid: number): Promise<void>;
  flags(user: string, folder: string): Promise<Map<number, string[]>>;
  count(user: string, folder: string): Promise<number>;
  uidValidity(user: string, folder: string): Promise<number>;
  /** Deletes the folder, creates it again and puts its messages back; resolves with its new UIDVALIDITY. */
  recreate(user: string, folder: string): Promise<number>;
  /** Runs one command in no folder and resolves with its untagged lines. */
  command(user: string, text: string): Promise<string[]>;
  /** Ends all kept connections. */
  close(): Promise<void>;
};

/** How the server takes many messages: in one command (MULTIAPPEND, RFC 3502) or in one command each. */
export type ControlOptions = {
  port: () => number;
  password: (user: string) => string;
  multiAppend: boolean;
};

const KEPT_CONNECTIONS = 20;
const BATCH = 200;

/** A control client for the server on this port of 127.0.0.1. */
export function imapControl(options: ControlOptions): ImapControl {
  const kept = new Map<string, Promise<Connection>>();
  const close = async (): Promise<void> => {
    const open = [...kept.values()];
    kept.clear();
    await Promise.allSettled(open.map(async (connection) => (await connection).end()));
  };
  const opened = (user: string): Promise<Connection> => {
    const existing = kept.get(user);
    kept.delete(user);
    const connection = (existing ?? Promise.reject(new Error("none")))
      .then((one) => (one.usable ? one : Promise.reject(new Error("ended"))))
      .catch(() => Connection.open(options.port(), user, options.password(user)));
    kept.set(user, connection);
    connection.catch(() => kept.delete(user));
    const [oldest] = kept;
    if (oldest && kept.size > KEPT_CONNECTIONS) {
      kept.delete(oldest[0]);
      void oldest[1].then((one) => one.idle.then(() => one.end())).catch(() => undefined);
    }
    return connection;
  };
  const use = async <Result>(user: string, work: (connection: Connection) => Promise<Result>): Promise<Result> => {
    const connection = await opened(user);
    return connection.exclusively(() => work(connection));
  };
  return {
    append: (user, folder, raws) => use(user, (connection) => connection.append(folder, raws, options.multiAppend)),
    createFolder: (user, folder) => use(user, async (one) => void (await one.command(`CREATE ${quoted(folder)}`))),
    expunge: (user, folder, uid) =>
      use(user, async (connection) => {
        await connection.command(`SELECT ${quoted(folder)}`);
        await connection.command(`UID STORE ${uid} +FLAGS.SILENT (\\Deleted)`);
        await connection.command(`UID EXPUNGE ${uid}`);
        // CLOSE alone would remove whatever else is marked \\Deleted.
        await connection.command(`EXAMINE ${quoted(folder)}`);
        await connection.command("CLOSE");
      }),
    flags: (user, folder) =>
      use(user, async (connection) => {
        await connection.command(`EXAMINE ${quoted(folder)}`);
        const lines = await connection.command("UID FETCH 1:* (UID FLAGS)");
        await connection.command("CLOSE");
        return new Map(lines.flatMap(flagsIn));
      }),
    count: (user, folder) =>
      use(user, async (connection) => {
        const lines = await connection.command(`STATUS ${quoted(folder)} (MESSAGES)`);
        return Number(/MESSAGES (\d+)/.exec(lines.join(" "))?.[1]);
      }),
    uidValidity: (user, folder) => use(user, (connection) => uidValidity(connection, folder)),
    recreate: (user, folder) =>
      use(user, async (connection) => {
        await connection.command(`EXAMINE ${quoted(folder)}`);
        const { literals } = await connection.answerTo("UID FETCH 1:* (BODY.PEEK[])");
        await connection.command("CLOSE");
        await connection.command(`DELETE ${quoted(folder)}`);
        await connection.command(`CREATE ${quoted(folder)}`);
        await connection.append(folder, literals, options.multiAppend);
        return uidValidity(connection, folder);
      }),
    command: (user, text) => use(user, (connection) => connection.command(text)),
    close,
  };
}

type Answer = { lines: string[]; literals: Buffer[]; reply: string };

class Connection {
  usable = true;
  /** Resolves when nobody uses the connection. */
  idle: Promise<unknown> = Promise.resolve();
  readonly #socket: Socket;
  readonly #reader = new ByteReader();
  #tag = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk) => this.#reader.push(chunk));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      this.usable = false;
      this.#reader.end();
    });
    // A kept connection must not keep the test process alive.
    socket.unref();
  }

  static async open(port: number, user: string, password: string): Promise<Connection> {
    const connection = new Connection(connect(port, "127.0.0.1"));
    connection.#socket.ref();
    await connection.#line();
    await connection.command(`LOGIN ${quotedText(user)} ${quotedText(password)}`);
    connection.#socket.unref();
    return connection;
  }

  /** Works with the connection alone, after those who came before. */
  exclusively<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.idle.then(async () => {
      this.#socket.ref();
      try {
        return await work();
      } finally {
        this.#socket.unref();
      }
    });
    this.idle = turn.catch(() => undefined);
    return turn;
  }

  async command(text: string): Promise<string[]> {
    return (await this.answerTo(text)).lines;
  }

  answerTo(text: string): Promise<Answer> {
    const tag = `c${++this.#tag}`;
    this.#socket.write(`${tag} ${text}\r\n`);
    return this.#answer(tag, text);
  }

  async append(folder: string, raws: (Buffer | string)[], together: boolean): Promise<number[]> {
    const uids: number[] = [];
    for (let from = 0; from < raws.length; from += BATCH) {
      const batch = raws.slice(from, from + BATCH).map((raw) => Buffer.from(raw));
      const groups = together ? [batch] : batch.map((one) => [one]);
      const tags: string[] = [];
      for (const group of groups) {
        const tag = `c${++this.#tag}`;
        tags.push(tag);
        this.#socket.write(`${tag} APPEND ${quoted(folder)}`);
        for (const raw of group) {
          this.#socket.write(` {${raw.length}+}\r\n`);
          if (!this.#socket.write(raw)) await new Promise((resolve) => this.#socket.once("drain", resolve));
        }
        this.#socket.write("\r\n");
      }
      for (const tag of tags) uids.push(...uidsIn((await this.#answer(tag, `APPEND ${folder}`)).reply));
    }
    return uids;
  }

  end(): void {
    this.usable = false;
    this.#socket.end("z LOGOUT\r\n");
  }

  async #answer(tag: string, text: string): Promise<Answer> {
    const lines: string[] = [];
    const literals: Buffer[] = [];
    while (true) {
      const line = await this.#line();
      const size = /\{(\d+)\}$/.exec(line)?.[1];
      if (size !== undefined) literals.push((await this.#reader.bytes(Number(size))) ?? Buffer.alloc(0));
      if (!line.startsWith(`${tag} `)) {
        lines.push(line);
        continue;
      }
      if (line.startsWith(`${tag} OK`)) return { lines, literals, reply: line };
      throw new Error(`The mail server refuses ${text.replace(/^LOGIN .*/, "LOGIN")}: ${line}`);
    }
  }

  async #line(): Promise<string> {
    const line = await this.#reader.line();
    if (line === undefined) {
      this.#socket.destroy();
      throw new Error("The mail server has closed the tests' control connection");
    }
    return line.toString("latin1");
  }
}

async function uidValidity(connection: Connection, folder: string): Promise<number> {
  const lines = await connection.command(`EXAMINE ${quoted(folder)}`);
  await connection.command("CLOSE");
  return Number(/\[UIDVALIDITY (\d+)\]/.exec(lines.join(" "))?.[1]);
}

function flagsIn(line: string): [number, string[]][] {
  const uid = /\bUID (\d+)/.exec(line)?.[1];
  const flags = /\bFLAGS \(([^)]*)\)/.exec(line)?.[1];
  if (uid === undefined || flags === undefined) return [];
  return [[Number(uid), flags.split(" ").filter((flag) => flag !== "" && flag !== "\\Recent")]];
}

function uidsIn(reply: string): number[] {
  const set = /\[APPENDUID \d+ ([\d:,]+)\]/i.exec(reply)?.[1] ?? "";
  return set.split(",").flatMap((range) => {
    const [from = 0, to = from] = range.split(":").map(Number);
    return from === 0 ? [] : Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
}

function quoted(folder: string): string {
  return quotedText(encodeFolderName(folder));
}

function quotedText(text: string): string {
  return `"${text.replaceAll(/["\\]/g, "\\$&")}"`;
}
