/** Writes log lines in few writes, and loses none when the process ends. */
import { writeSync } from "node:fs";

/** The target of the lines: `process.stdout`, or anything that takes text and then calls `written`. */
export type LogStream = { write(text: string, written?: () => void): unknown; isTTY?: boolean };

export type BatchedStream = LogStream & {
  /** Returns the text whose write is not confirmed, for a caller that writes it before the process ends. */
  takeUnwritten(): string;
  /** Resolves as soon as nothing is left to write. */
  awaitEmpty(): Promise<void>;
};

/** Lines that follow each other within this time become one write. */
const BATCH_MS = 10;

/**
 * Writes at the end of the turn, and gathers lines that come soon after a write. Otherwise each mail would cost a
 * system call.
 */
export function batchWrites(out: LogStream): BatchedStream {
  let lines = "";
  let wroteAt = -BATCH_MS;
  /** Batches that the stream has not confirmed, oldest first. It may have written the start of the first one. */
  const unconfirmed: string[] = [];
  let resolveEmpty: (() => void)[] = [];

  const isEmpty = () => unconfirmed.length === 0 && lines === "";
  const confirm = () => {
    unconfirmed.shift();
    if (!isEmpty()) return;
    for (const resolve of resolveEmpty) resolve();
    resolveEmpty = [];
  };
  const write = () => {
    const batch = lines;
    if (batch === "") return;
    lines = "";
    wroteAt = performance.now();
    unconfirmed.push(batch);
    out.write(batch, confirm);
  };

  return {
    isTTY: out.isTTY === true,
    takeUnwritten() {
      // The stream may have stopped in the middle of a line. So the text starts on a new line.
      const text = (unconfirmed.length > 0 ? "\n" : "") + unconfirmed.join("") + lines;
      unconfirmed.length = 0;
      lines = "";
      return text;
    },
    awaitEmpty: () =>
      new Promise((resolve) => {
        if (isEmpty()) resolve();
        else resolveEmpty.push(resolve);
      }),
    write(text) {
      if (lines === "") {
        const wait = wroteAt + BATCH_MS - performance.now();
        if (wait > 0) setTimeout(write, wait);
        else setImmediate(write);
      }
      lines += text;
    },
  };
}

/** How long a full pipe can delay the end of the process. */
const LAST_WRITE_MS = 1_000;
const LAST_WRITE_POLL_MS = 10;

/**
 * When the process ends, by a crash or an exit, writes what the stream would have written later. The returned function
 * removes this as soon as nothing is left to write.
 */
export function writeAtExit(stream: BatchedStream, fd: number): () => Promise<void> {
  const onExit = () => writeNow(fd, stream.takeUnwritten());
  process.on("exit", onExit);
  return async () => {
    await stream.awaitEmpty();
    process.off("exit", onExit);
  };
}

function writeNow(fd: number, text: string): void {
  const deadline = performance.now() + LAST_WRITE_MS;
  for (let rest = Buffer.from(text); rest.length > 0;) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      const pipeIsFull = error instanceof Error && "code" in error && error.code === "EAGAIN";
      // Any other error means that nobody can read the log.
      if (!pipeIsFull || performance.now() > deadline) return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LAST_WRITE_POLL_MS);
    }
  }
}
