/** A lean IMAP connection for the tests' own use, with LITERAL+ so that many messages need no round trips. */
import { connect, type Socket } from "node:net";
import { ByteReader } from "./imap/reader.ts";
import { encodeFolderName } from "./imap/store.ts";

const BATCH = 200;

/** What the server answered: untagged lines, the literals in them, the tagged reply. */
export type Answer = { lines: string[]; literals: Buffer[]; reply: string };

/** One IMAP connection in plain text, logged in; commands go one after the other. */
export class Connection {
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
      for (const group of groups) tags.push(await this.#sendAppend(folder, group));
      for (const tag of tags) uids.push(...uidsIn((await this.#answer(tag, `APPEND ${folder}`)).reply));
    }
    return uids;
  }

  end(): void {
    this.usable = false;
    this.#socket.end("z LOGOUT\r\n");
  }

  async #sendAppend(folder: string, raws: Buffer[]): Promise<string> {
    const tag = `c${++this.#tag}`;
    this.#socket.write(`${tag} APPEND ${quoted(folder)}`);
    for (const raw of raws) {
      this.#socket.write(` {${raw.length}+}\r\n`);
      if (!this.#socket.write(raw)) await new Promise((resolve) => this.#socket.once("drain", resolve));
    }
    this.#socket.write("\r\n");
    return tag;
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

function uidsIn(reply: string): number[] {
  const set = /\[APPENDUID \d+ ([\d:,]+)\]/i.exec(reply)?.[1] ?? "";
  return set.split(",").flatMap((range) => {
    const [from = 0, to = from] = range.split(":").map(Number);
    return from === 0 ? [] : Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
}

/** A folder name as it is written in a command. */
export function quoted(folder: string): string {
  return quotedText(encodeFolderName(folder));
}

function quotedText(text: string): string {
  return `"${text.replaceAll(/["\\]/g, "\\$&")}"`;
}
