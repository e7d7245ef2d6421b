/** The bench's endpoint: takes POSTs as fast as it can and remembers when each numbered message came. */
import { createServer } from "node:http";
import { message } from "../servers/mail.ts";
import { waitingRoom } from "../servers/waiting.ts";

export type Sink = {
  url: string;
  /** When each number came first, by `performance.now()`. */
  at: ReadonlyMap<number, number>;
  /** Resolves when so many different numbers came since the last `clear`. */
  all(count: number, timeoutMs: number): Promise<void>;
  clear(): void;
  close(): Promise<void>;
};

/** A message of about `bytes` whose number the sink finds again, in the raw message and in the parsed one. */
export function numberedMail(number: number, bytes: number): Buffer {
  return message({ subject: `bench-${number}-`, messageId: null, bytes });
}

/** On this port, or on a free one. */
export async function startSink(port = 0): Promise<Sink> {
  const at = new Map<number, number>();
  const room = waitingRoom();
  const server = createServer((request, response) => {
    const now = performance.now();
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      response.writeHead(204).end();
      const number = Number(/bench-(\d+)-/.exec(Buffer.concat(chunks).toString("latin1"))?.[1] ?? -1);
      if (number >= 0 && !at.has(number)) at.set(number, now);
      room.wake();
    });
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const address = server.address();
  return {
    url: `http://127.0.0.1:${typeof address === "object" && address ? address.port : port}/`,
    at,
    all: async (count, timeoutMs) => {
      await room.until(
        () => (at.size >= count ? true : undefined),
        timeoutMs,
        () => `${at.size} of ${count} messages came`,
      );
    },
    clear: () => at.clear(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
