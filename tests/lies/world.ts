/** What all runs share: the service as a process, with time compressed, one lying server, and an endpoint that accepts all. */
import { createServer } from "node:http";
import { startExchange } from "../servers/exchange/server.ts";
import { listenOn } from "../servers/ports.ts";
import { sleep } from "../../shared/time.ts";
import { type Service, startService } from "../service.ts";
import { playEwsRun, toLiar } from "./ews-run.ts";
import { playImapRun } from "./imap-run.ts";
import { startLiarServer } from "./imap-server.ts";
import type { Accepted, Outcome, World } from "./model.ts";
import { playPop3Run } from "./pop3-run.ts";
import { startLiarPop3Server } from "./pop3-server.ts";

export type LyingProtocol = "imap" | "pop3" | "ews";
type Liars = { play(world: World, seed: number): Promise<Outcome>; stop(): Promise<void> };

const LIARS: Record<LyingProtocol, () => Promise<Liars>> = {
  async imap() {
    const server = await startLiarServer();
    return { play: (world, seed) => playImapRun({ ...world, server }, seed), stop: server.stop };
  },
  async pop3() {
    const pop3 = await startLiarPop3Server();
    return { play: (world, seed) => playPop3Run({ ...world, pop3 }, seed), stop: pop3.stop };
  },
  async ews() {
    const exchange = await startExchange();
    const liars = toLiar(exchange);
    return { play: (world, seed) => playEwsRun({ ...world, exchange, liars }, seed), stop: exchange.stop };
  },
};

/** `stallMs`: the service stands still now and then, for so long at most, as on a machine that has much to do. */
type Plan = { protocol: LyingProtocol; first: number; runs: number; atOnce: number; stallMs?: number };

/** Plays so many runs, some at the same time; calls `done` with each. */
export async function playRuns(
  { protocol, first, runs, atOnce, stallMs = 0 }: Plan,
  done: (outcome: Outcome) => void,
): Promise<void> {
  const accepted = new Map<string, Accepted[]>();
  const http = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const mailbox = String(request.headers["x-email-listener-mailbox"]);
      const post: Accepted = {
        bytes: Buffer.concat(chunks),
        delivery: String(request.headers["webhook-id"]),
        at: new Date().toISOString(),
      };
      accepted.set(mailbox, [...(accepted.get(mailbox) ?? []), post]);
      response.end();
    });
  });
  const port = await listenOn(http, 0);
  const liars = await LIARS[protocol]();
  const service = await startService({
    BACKOFF_SCALE: "0.004",
    COMMAND_TIMEOUT_SECONDS: "0.7",
    FOLDER_POLL_SECONDS: "0.3",
    PROBE_SECONDS: "2",
    LOG_LEVEL: "info",
    EGRESS_PRIVATE: "allow",
  });
  const world: World = { service, endpoint: { url: `http://127.0.0.1:${port}/`, accepted } };
  const over = new AbortController();
  const stalled = stall(service, stallMs, over.signal);
  try {
    let next = first;
    const play = async () => {
      while (next < first + runs) done(await liars.play(world, next++));
    };
    await Promise.all(Array.from({ length: atOnce }, play));
  } finally {
    over.abort();
    await stalled;
    await service.end();
    await liars.stop();
    http.closeAllConnections();
    http.close();
  }
}

/** Lets the service run for as long as it stands still, on average. */
async function stall(service: Service, ms: number, signal: AbortSignal): Promise<void> {
  let goesOn = ms > 0 && (await sleep(Math.random() * ms, signal));
  while (goesOn) {
    service.pause();
    goesOn = await sleep(Math.random() * ms, signal);
    service.resume();
    goesOn &&= await sleep(Math.random() * ms, signal);
  }
}
