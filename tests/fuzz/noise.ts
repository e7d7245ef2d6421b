/** A TCP proxy that changes what a server says by a plan: one for each answer, by its number in the connection. */
import { connect, createServer, type Socket } from "node:net";
import * as fc from "fast-check";
import { listenOn } from "../servers/ports.ts";

/** What happens to one answer. `where` is the place in it, between 0 and 1. */
export type Noise = {
  answer: number;
  kind: "insert" | "replace" | "byte" | "cut" | "repeat" | "flood" | "drop" | "silence" | "crumbs";
  where: number;
  piece: string;
};

export type NoisyLine = { port: number; stop(): Promise<void> };

const KINDS: Noise["kind"][] = [
  "insert",
  "insert",
  "replace",
  "replace",
  "byte",
  "cut",
  "repeat",
  "flood",
  "drop",
  "silence",
  "crumbs",
];
/** How often a piece is repeated in a flood, and at most how many bytes it has. */
const [FLOOD, FLOOD_BYTES] = [20_000, 4_000_000];
/** The first answers matter most: greeting, capabilities and login. */
const MOST_ANSWERS = 14;

/** One to three changes. `pieces` are words of the protocol, and signs that its readers look for. */
export function noises(pieces: readonly string[]): fc.Arbitrary<Noise[]> {
  const one = fc.record({
    answer: fc.nat({ max: MOST_ANSWERS }),
    kind: fc.constantFrom(...KINDS),
    where: fc.double({ min: 0, max: 1, noNaN: true }),
    piece: fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...pieces) }, fc.string({ unit: "binary", maxLength: 8 })),
  });
  return fc.array(one, { minLength: 1, maxLength: 3 });
}

/** Listens on a port of its own and passes everything on to the server, changed by the plan in each connection. */
export async function startNoisyLine(target: number, plan: Noise[]): Promise<NoisyLine> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(target, "127.0.0.1");
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => sockets.delete(socket));
    }
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
    client.on("data", (chunk) => void upstream.write(chunk));
    let answer = 0;
    upstream.on("data", (chunk) => {
      const changes = plan.filter((noise) => noise.answer === answer);
      answer++;
      pass(client, chunk, changes);
    });
  });
  const port = await listenOn(server, 0);
  const stop = async (): Promise<void> => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  return { port, stop };
}

function pass(client: Socket, chunk: Buffer, plan: Noise[]): void {
  let text = chunk.toString("latin1");
  for (const { kind, where, piece } of plan) {
    if (kind === "silence") return;
    if (kind === "drop") {
      client.end(Buffer.from(text.slice(0, Math.floor(where * text.length)), "latin1"));
      return;
    }
    text = change(text, { kind, at: Math.floor(where * text.length), piece });
  }
  if (plan.some(({ kind }) => kind === "crumbs")) for (const sign of text) client.write(Buffer.from(sign, "latin1"));
  else client.write(Buffer.from(text, "latin1"));
}

function change(text: string, { kind, at, piece }: { kind: Noise["kind"]; at: number; piece: string }): string {
  const [before, after] = [text.slice(0, at), text.slice(at)];
  switch (kind) {
    case "insert":
      return before + piece + after;
    case "replace":
      return before + piece + after.slice(piece.length);
    case "byte":
      return before + String.fromCharCode(piece.charCodeAt(0) & 0xff) + after.slice(1);
    case "cut":
      return before;
    case "repeat":
      return before + after + after;
    case "flood":
      return before + piece.repeat(Math.min(FLOOD, Math.ceil(FLOOD_BYTES / Math.max(1, piece.length)))) + after;
    default:
      return text;
  }
}
