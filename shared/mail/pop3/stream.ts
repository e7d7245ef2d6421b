/**
 * Reads lines and dot-terminated blocks from a socket, byte for byte, without knowing what they mean. Own code, because
 * node-pop3 has neither STLS nor SASL, loses 8-bit bytes, and needs 20 s for 50 MB on Node.
 */
import type { Socket } from "node:net";
import { Problem } from "../../contract/problem.ts";
import { excessProblem, sizeText } from "../net/excess.ts";
import { createIntake, type Intake } from "../net/intake.ts";
import type { Tap } from "../net/tap.ts";
import { toProblem } from "../problems.ts";

/**
 * One reader at a time: `readLine` and `readBlock` are called one after the other, in the order of the sent commands.
 */
export interface LineStream {
  /** Changes while bytes arrive, and while the stream waits for its turn to read them. */
  readonly received: number;
  /** Bytes that nobody has asked for yet. */
  readonly unread: number;
  /** Aborts when the connection has ended. Its reason is the Problem that ended it. */
  readonly ended: AbortSignal;
  send(text: string): void;
  /** The next line without its line end, as UTF-8. */
  readLine(): Promise<string>;
  /**
   * Everything up to the line with a single dot, without that line and with its byte-stuffing undone (RFC 1939 section
   * 3).
   */
  readBlock(mostBytes: number): Promise<Buffer>;
  /** The login succeeded: the limit of bytes before it no longer counts. */
  loggedIn(): void;
  /** Gives the socket away, so that TLS can start on it. */
  detach(): Socket;
  /** Ends the connection at once, with this reason. */
  destroy(problem: Problem): void;
}

/** Takes a chunk. Returns undefined while the answer is incomplete, then the bytes after the answer. */
type Feed = (chunk: Buffer) => Buffer | undefined;
type Reader = { feed: Feed; fail: (problem: unknown) => void; bytes: number };

/** RFC 2449 section 4 allows 512. */
const MAX_LINE_BYTES = 8 * 1024;
const MAX_BYTES_BEFORE_LOGIN = 64 * 1024;
/** Answers to commands that were sent together may wait for their reader. With more of them the socket is paused. */
const MAX_UNREAD_BYTES = 64 * 1024;
const [LF, CR, DOT] = [10, 13, 46];
const TERMINATOR = Buffer.from("\r\n.\r\n");
const STUFFED_DOT = Buffer.from("\r\n..");

export function createLineStream(socket: Socket, intake: Intake = createIntake()): LineStream {
  const ended = new AbortController();
  const answers = createAnswers();
  let received = 0;
  let isLoggedIn = false;
  const share = intake.join((problem) => destroy(problem));

  const end = (problem: Problem) => {
    if (!ended.signal.aborted) ended.abort(problem);
    answers.fail(ended.signal.reason);
    share[Symbol.dispose]();
  };
  const destroy = (problem: Problem) => {
    end(problem);
    answers.forget();
    socket.destroy();
  };
  const onData = (chunk: Buffer) => {
    received += chunk.length;
    if (!isLoggedIn && received > MAX_BYTES_BEFORE_LOGIN) return destroy(toStrangerProblem());
    if (answers.take(chunk)) return void holdBlock();
    share.hold(0);
    if (answers.unreadBytes > MAX_UNREAD_BYTES) socket.pause();
  };
  /** Pauses while the process holds too much of unfinished answers. */
  const holdBlock = async () => {
    const turn = share.hold(answers.openBytes);
    if (!turn) return;
    socket.pause();
    await turn;
    if (!ended.signal.aborted) socket.resume();
  };
  const onClose = () => end(new Problem("connect", "The server closed the connection"));
  socket.on("data", onData);
  socket.on("error", (error) => end(toProblem(error, { step: "command" })));
  socket.on("close", onClose);

  function read<T>(make: (done: (value: T) => void, fail: (problem: unknown) => void) => Feed): Promise<T> {
    return new Promise((resolve, reject) => {
      const feed = make(resolve, (problem) => {
        reject(problem);
        if (problem instanceof Problem) destroy(problem);
      });
      if (!answers.begin(feed, reject)) return;
      if (ended.signal.aborted) answers.fail(ended.signal.reason);
      else socket.resume();
    });
  }

  return {
    get received() {
      return received + share.waitedMs;
    },
    get unread() {
      return answers.unreadBytes;
    },
    ended: ended.signal,
    send(text) {
      if (!ended.signal.aborted) socket.write(text);
    },
    readLine: () => read(createLineReader),
    readBlock: (mostBytes) => read((done, fail) => createBlockReader(mostBytes, done, fail)),
    loggedIn() {
      isLoggedIn = true;
    },
    detach() {
      socket.off("data", onData);
      socket.off("close", onClose);
      share[Symbol.dispose]();
      return socket;
    },
    destroy,
  };
}

/** The same stream, with its lines told to the tap, and its blocks by their size. */
export function tapped(stream: LineStream, tap: Tap): LineStream {
  return Object.create(stream, {
    send: {
      value(text: string) {
        if (tap.isOn()) for (const line of text.replace(/\r\n$/, "").split("\r\n")) tap.line("C", line);
        stream.send(text);
      },
    },
    readLine: {
      async value() {
        const line = await stream.readLine();
        if (tap.isOn()) tap.line("S", line);
        return line;
      },
    },
    readBlock: {
      async value(mostBytes: number) {
        const block = await stream.readBlock(mostBytes);
        if (tap.isOn()) tap.line("S", `[${block.length} bytes]`);
        return block;
      },
    },
  }) as LineStream;
}

/** The answer that is being read, and the bytes that came before anybody asked for them. */
function createAnswers() {
  // In chunks as they came: put together for each new one, they would be copied again and again.
  const unread: Buffer[] = [];
  let unreadBytes = 0;
  let reader: Reader | undefined;
  const keep = (rest: Buffer, where: "push" | "unshift") => {
    if (rest.length > 0) unread[where](rest);
    unreadBytes += rest.length;
  };
  return {
    get unreadBytes() {
      return unreadBytes;
    },
    get openBytes() {
      return reader?.bytes ?? 0;
    },
    /** Gives a chunk to the answer that is being read. Returns whether that needs more. */
    take(chunk: Buffer): boolean {
      if (reader) reader.bytes += chunk.length;
      const rest = reader ? reader.feed(chunk) : chunk;
      if (rest === undefined) return true;
      reader = undefined;
      keep(rest, "push");
      return false;
    },
    /** Begins an answer with the unread bytes. Returns whether it needs more. */
    begin(feed: Feed, fail: (problem: unknown) => void): boolean {
      let bytes = 0;
      for (let chunk = unread.shift(); chunk; chunk = unread.shift()) {
        bytes += chunk.length;
        unreadBytes -= chunk.length;
        const rest = feed(chunk);
        if (rest === undefined) continue;
        keep(rest, "unshift");
        return false;
      }
      reader = { feed, fail, bytes };
      return true;
    },
    fail(problem: unknown) {
      reader?.fail(problem);
      reader = undefined;
    },
    forget() {
      unread.length = 0;
      unreadBytes = 0;
    },
  };
}

function createLineReader(done: (line: string) => void, fail: (problem: unknown) => void): Feed {
  let partial: Buffer = Buffer.alloc(0);
  return (chunk) => {
    const at = chunk.indexOf(LF);
    const piece = at < 0 ? chunk : chunk.subarray(0, at);
    if (partial.length + piece.length > MAX_LINE_BYTES) {
      fail(excessProblem(`a line of over ${sizeText(MAX_LINE_BYTES)}`));
      return undefined;
    }
    partial = partial.length === 0 ? piece : Buffer.concat([partial, piece]);
    if (at < 0) return undefined;
    const whole = partial.at(-1) === CR ? partial.subarray(0, -1) : partial;
    done(whole.toString("utf8"));
    return chunk.subarray(at + 1);
  };
}

function createBlockReader(maxBytes: number, done: (block: Buffer) => void, fail: (problem: unknown) => void): Feed {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // The last received bytes: the terminator may span chunks, and the first line counts as the beginning of a line.
  let tail: Buffer = Buffer.from("\r\n");
  return (chunk) => {
    const seen = Buffer.concat([tail, chunk.subarray(0, TERMINATOR.length)]);
    const early = seen.indexOf(TERMINATOR);
    const from = early >= 0 ? early - tail.length : chunk.indexOf(TERMINATOR);
    const over = early >= 0 || from >= 0;
    const piece = over ? chunk.subarray(0, Math.max(0, from + TERMINATOR.length)) : chunk;
    chunks.push(piece);
    bytes += piece.length;
    if (bytes > maxBytes) {
      fail(excessProblem(`an answer of over ${sizeText(maxBytes)}`));
      return undefined;
    }
    if (!over) {
      tail = Buffer.concat([tail, chunk.subarray(-TERMINATOR.length)]).subarray(-(TERMINATOR.length - 1));
      return undefined;
    }
    // Without the dot and its line end. The line end before it belongs to the message.
    done(removeByteStuffing(Buffer.concat(chunks).subarray(0, -3)));
    return chunk.subarray(piece.length);
  };
}

function removeByteStuffing(block: Buffer): Buffer {
  const whole = block[0] === DOT ? block.subarray(1) : block;
  let at = whole.indexOf(STUFFED_DOT);
  if (at < 0) return whole;
  const pieces: Buffer[] = [];
  let from = 0;
  for (; at >= 0; at = whole.indexOf(STUFFED_DOT, from)) {
    pieces.push(whole.subarray(from, at + 3));
    from = at + 4;
  }
  return Buffer.concat([...pieces, whole.subarray(from)]);
}

function toStrangerProblem(): Problem {
  return excessProblem(`over ${sizeText(MAX_BYTES_BEFORE_LOGIN)} before the login`);
}
