/**
 * Finds the answers in the bytes of an IMAP server before the client library reads them, and counts them. It knows their
 * frames, lines and literals (RFC 9051 section 4), and nothing else.
 */
import { type Allowance, createAllowance } from "./allowance.ts";

/** Where a part of a chunk ends, how many answers are complete in it, and how many of them were not asked for one by one. */
export type Part = { end: number; answers: number; unasked: number };

export interface Traffic extends Pick<Allowance, "sent" | "loggedIn" | "expectContent"> {
  /** Bytes of the answer that is not complete yet. */
  readonly openBytes: number;
  /** Reads on from `from`, up to the end of the chunk or of so many answers. Throws the Problem of a limit. */
  read(chunk: Buffer, from: number, maxAnswers: number): Part;
}

const LF = 10;
/** The end of a line with the size of a literal. A longer run of digits is no size. */
const TAIL_BYTES = 32;
const HEAD_BYTES = 40;

export function createTraffic(): Traffic {
  const allowance = createAllowance();
  // The answer that is being received: its first bytes, its bytes in all, those of its last line, the end of that line,
  // and what is missing of a literal.
  let [head, openBytes, lineBytes, tail, literalLeft] = ["", 0, 0, "", 0];

  function countBytes(bytes: number): void {
    openBytes += bytes;
    allowance.countBytes(bytes);
  }

  /** A part of a line. `isEnd` when it is the last part. Returns whether the answer is complete. */
  function readLine(part: Buffer, isEnd: boolean): boolean {
    lineBytes += part.length;
    allowance.checkLine(lineBytes);
    countBytes(part.length);
    if (head.length < HEAD_BYTES) head += part.toString("latin1", 0, HEAD_BYTES);
    tail = (tail + part.toString("latin1", Math.max(0, part.length - TAIL_BYTES))).slice(-TAIL_BYTES);
    if (!isEnd) return false;
    const size = literalSize(tail);
    [lineBytes, tail] = [0, ""];
    if (size === undefined) return true;
    allowance.checkLiteral(size);
    literalLeft = size;
    return false;
  }

  function endAnswer(): boolean {
    const isUnasked = allowance.countAnswer(head);
    [head, openBytes] = ["", 0];
    return isUnasked;
  }

  return {
    get openBytes() {
      return openBytes;
    },
    sent: allowance.sent,
    loggedIn: allowance.loggedIn,
    expectContent: allowance.expectContent,
    read(chunk, from, maxAnswers) {
      let [at, answers, unasked] = [from, 0, 0];
      while (at < chunk.length && answers < maxAnswers) {
        if (literalLeft > 0) {
          const size = Math.min(literalLeft, chunk.length - at);
          countBytes(size);
          literalLeft -= size;
          at += size;
          continue;
        }
        const lineEnd = chunk.indexOf(LF, at);
        const end = lineEnd < 0 ? chunk.length : lineEnd + 1;
        if (readLine(chunk.subarray(at, end), lineEnd >= 0)) {
          answers++;
          if (endAnswer()) unasked++;
        }
        at = end;
      }
      return { end: at, answers, unasked };
    },
  };
}

/** The size of the literal that follows a line with this end, undefined if none follows. */
function literalSize(tail: string): number | undefined {
  const [all, brace = "", digits = ""] = /(\{|(?<![\d{]))(\d+)\}\r?\n$/.exec(tail) ?? [];
  if (brace !== "") return Number(digits);
  return all?.length === TAIL_BYTES ? Number.POSITIVE_INFINITY : undefined;
}
