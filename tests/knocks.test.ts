/** What ends the pause of an endpoint early: an answer from there, and nothing less. */
import assert from "node:assert/strict";
import { createServer as createHttpServer } from "node:http";
import { createServer, type Server, type Socket } from "node:net";
import { test } from "node:test";
import { egress } from "../shared/egress.ts";
import type { PostOutcome } from "../worker/endpoint/endpoint.ts";
import { circuitBreakers } from "../worker/endpoint/circuit-breaker.ts";
import { knockAtAbsent } from "../worker/endpoint/knocks.ts";
import { strangerLines } from "../worker/shares/lines.ts";
import { freePorts, listenOn } from "./servers/ports.ts";
import { eventually } from "./servers/waiting.ts";

const nobody: PostOutcome = {
  kind: "refused",
  status: null,
  ms: 1,
  reason: "nobody is there",
  words: null,
  retry: "later",
  retryAt: null,
  gone: false,
  unreached: true,
};
const bounds = { initial: 2, min: 2, max: 2 };

test("a paused endpoint is tried as soon as it answers, and not while only a port or a proxy answers", async () => {
  const [port = 0] = await freePorts(1);
  const url = `http://127.0.0.1:${port}/hook`;
  const returned: string[] = [];
  const breakers = circuitBreakers({
    lines: strangerLines({ inHand: 512 }),
    emit: () => undefined,
    onRecovered: () => undefined,
    backoff: { rest: () => 3_600_000 },
  });
  const target = { url, destination: { own: { name: url, bounds }, site: { name: "site", bounds } }, owner: "a" };
  using stop = stopper();
  for (let permit = await breakers.acquire(target, stop.signal); permit.kind === "go";) {
    permit.release(nobody);
    permit = await breakers.acquire(target, stop.signal);
  }
  const onReturned = (origin: string) => void returned.push(origin);
  const deps = { circuitBreakers: breakers, egress: egress("allow"), backoff: { rest: () => 20 }, onReturned };
  const knocking = knockAtAbsent(deps, stop.signal);
  let asked = 0;
  const silent = createServer((socket) => socket.on("error", () => undefined).on("data", () => (asked += 1)));
  const other = createServer((socket) =>
    socket.on("error", () => undefined).end("220 mail here\r\n", () => (asked += 1)),
  );
  const proxy = createHttpServer();
  // Node.js would answer the unknown expectation by itself.
  proxy.on("checkExpectation", (_, response) => response.writeHead(503).end(() => (asked += 1)));
  const program = createHttpServer();
  for (const server of [silent, other, proxy]) {
    asked = 0;
    await during(server, port, () => eventually(() => asked > 1, "two knocks"));
    assert.deepEqual([returned, breakers.isPaused(url)], [[], true]);
  }
  await during(program, port, () => eventually(() => returned.length > 0, "the return to be noticed"));
  assert.equal(returned[0], `http://127.0.0.1:${port}`);
  assert.equal((await breakers.acquire(target, stop.signal)).kind, "go");
  stop.abort();
  await knocking;
});

function stopper() {
  const stop = new AbortController();
  const abort = () => stop.abort(new DOMException("over", "AbortError"));
  return { signal: stop.signal, abort, [Symbol.dispose]: abort };
}

async function during(server: Server, port: number, work: () => Promise<unknown>): Promise<void> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => sockets.add(socket));
  await listenOn(server, port);
  try {
    await work();
  } finally {
    server.close();
    for (const socket of sockets) socket.destroy();
  }
}
