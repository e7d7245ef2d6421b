/** Lines and dot-terminated blocks over a socket, byte for byte: nothing here knows what they mean. */
import type { Socket } from "node:net";
import { Problem } from "../../contract/problem.ts";
import { problemOf } from "../problems.ts";

/** One reader at a time: `line` and `block` are called one after the other, in the order of the commands sent. */
export interface Line {
  /** Bytes received so far. */
  readonly received: number;
  /** Bytes that nobody asked for yet. */
  readonly unread: number;
  /** Aborts when the connection is over; its reason is the Problem that ended it. */
  readonly ended: AbortSignal;
  send(text: string): void;
  /** The next line without its line end, as UTF-8. */
  line(): Promise<string>;
  /** Everything up to the line with a single dot, without it and with its byte-stuffing undone (RFC 1939 section 3). */
  block(mostBytes: number): Promise<Buffer>;
  /** Gives the socket away, for TLS on top of it. */
  detach(): Socket;
  /** Ends the connection at once, for this reason. */
  cut(problem: Problem): void;
}

/** Takes a chunk; returns what it leaves when it is complete, undefined while it needs more. */
type Reader = { feed: (chunk: Buffer) => Buffer | undefined; fail: (problem: unknown) => void };

const LONGEST_LINE = 65_536;
/** Answers to commands that were sent together may wait for their reader, but not without end. */
const MOST_UNREAD = 64 * 1024 * 1024;
const [LF, CR, DOT] = [10, 13, 46];
const END = Buffer.from("\r\n.\r\n");
const STUFFED = Buffer.from("\r\n..");

export function lineOver(socket: Socket): Line {
  const ended = new AbortController();
  let unread: Buffer = Buffer.alloc(0);
  let reader: Reader | undefined;
  let received = 0;

  const end = (problem: Problem) => {
    if (!ended.signal.aborted) ended.abort(problem);
    reader?.fail(ended.signal.reason);
    reader = undefined;
  };
  const cut = (problem: Problem) => {
    end(problem);
    socket.destroy();
  };
  const take = (chunk: Buffer) => {
    received += chunk.length;
    const rest = reader ? reader.feed(chunk) : chunk;
    if (rest === undefined) return;
    reader = undefined;
    unread = unread.length === 0 ? rest : Buffer.concat([unread, rest]);
    if (unread.length > MOST_UNREAD) cut(flood());
  };
  const failed = (error: unknown) => end(problemOf(error, { step: "command" }));
  const closed = () => end(new Problem("connect", "The server closed the connection"));
  socket.on("data", take);
  socket.on("error", failed);
  socket.on("close", closed);

  function read<T>(make: (done: (value: T) => void, fail: (problem: unknown) => void) => Reader["feed"]): Promise<T> {
    return new Promise((resolve, reject) => {
      const feed = make(resolve, (problem) => {
        reject(problem);
        if (problem instanceof Problem) cut(problem);
      });
      const held = unread;
      unread = Buffer.alloc(0);
      const rest = held.length > 0 ? feed(held) : undefined;
      if (rest !== undefined) unread = rest;
      else if (ended.signal.aborted) reject(ended.signal.reason);
      else reader = { feed, fail: reject };
    });
  }

  return {
    get received() {
      return received;
    },
    get unread() {
      return unread.length;
    },
    ended: ended.signal,
    send(text) {
      if (!ended.signal.aborted) socket.write(text);
    },
    line: () => read(lineReader),
    block: (mostBytes) => read((done, fail) => blockReader(mostBytes, done, fail)),
    detach() {
      socket.off("data", take);
      socket.off("close", closed);
      return socket;
    },
    cut,
  };
}

function lineReader(done: (line: string) => void, fail: (problem: unknown) => void): Reader["feed"] {
  let begun: Buffer = Buffer.alloc(0);
  return (chunk) => {
    const at = chunk.indexOf(LF);
    const piece = at < 0 ? chunk : chunk.subarray(0, at);
    if (begun.length + piece.length > LONGEST_LINE) {
      fail(flood());
      return undefined;
    }
    begun = begun.length === 0 ? piece : Buffer.concat([begun, piece]);
    if (at < 0) return undefined;
    const whole = begun.at(-1) === CR ? begun.subarray(0, -1) : begun;
    done(whole.toString("utf8"));
    return chunk.subarray(at + 1);
  };
}

function blockReader(
  mostBytes: number,
  done: (block: Buffer) => void,
  fail: (problem: unknown) => void,
): Reader["feed"] {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // The last bytes seen: the terminator may lie across chunks, and the first line counts as the begin of a line.
  let tail: Buffer = Buffer.from("\r\n");
  return (chunk) => {
    const seen = Buffer.concat([tail, chunk.subarray(0, END.length)]);
    const early = seen.indexOf(END);
    const from = early >= 0 ? early - tail.length : chunk.indexOf(END);
    const over = early >= 0 || from >= 0;
    const piece = over ? chunk.subarray(0, Math.max(0, from + END.length)) : chunk;
    chunks.push(piece);
    bytes += piece.length;
    if (bytes > mostBytes) {
      fail(new Problem("protocol", `The server sent more than ${mostBytes} bytes where it may not`));
      return undefined;
    }
    if (!over) {
      tail = Buffer.concat([tail, chunk.subarray(-END.length)]).subarray(-(END.length - 1));
      return undefined;
    }
    // Without the dot and its line end; the line end before it is the message's own.
    done(unstuffed(Buffer.concat(chunks).subarray(0, -3)));
    return chunk.subarray(piece.length);
  };
}

function unstuffed(block: Buffer): Buffer {
  const whole = block[0] === DOT ? block.subarray(1) : block;
  let at = whole.indexOf(STUFFED);
  if (at < 0) return whole;
  const pieces: Buffer[] = [];
  let from = 0;
  for (; at >= 0; at = whole.indexOf(STUFFED, from)) {
    pieces.push(whole.subarray(from, at + 3));
    from = at + 4;
  }
  return Buffer.concat([...pieces, whole.subarray(from)]);
}

function flood(): Problem {
  return new Problem("protocol", "The server sent more than was asked for");
}
