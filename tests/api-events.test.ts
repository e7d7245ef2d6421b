/** The stream of facts over real HTTP, and the server under it: silence, slow readers, and closing in good order. */
import assert from "node:assert/strict";
import { connect, createServer, type Socket } from "node:net";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { serve } from "../api/http/server.ts";
import { Problem } from "../shared/contract/problem.ts";
import { type ApiNode, startApi } from "./api-node.ts";
import { movableClock } from "./clock.ts";
import { eventually } from "./servers/waiting.ts";

type Stream = { text(): string; ended(): boolean; socket: Socket };

/** A client of our own, because it has to be slow, and to see exactly when the connection ends. */
function open(node: ApiNode, path: string): Promise<Stream> {
  const { hostname, port } = new URL(node.url);
  let text = "";
  let ended = false;
  const socket = connect(Number(port), hostname);
  socket.on("data", (chunk) => (text += chunk));
  socket.on("close", () => (ended = true));
  socket.on("error", () => (ended = true));
  socket.write(`GET ${path} HTTP/1.1\r\nhost: ${hostname}:${port}\r\n\r\n`);
  const stream = { text: () => text, ended: () => ended, socket };
  return eventually(() => text.includes("retry: 3000") && stream, "the stream's beginning");
}

async function withNode(work: (node: ApiNode) => Promise<void>): Promise<void> {
  const node = await startApi();
  try {
    await work(node);
  } finally {
    await node.close();
  }
}

const changed = (mailbox: string) => ({ kind: "mailbox.changed", mailbox, revision: 1 }) as const;

describe("the stream of facts", () => {
  test("tells each fact as an event with its kind and JSON", () =>
    withNode(async (node) => {
      const stream = await open(node, "/api/v1/events");
      assert.match(stream.text(), /content-type: text\/event-stream/i);
      node.facts.emit(changed("m1"));
      await eventually(() => stream.text().includes("event: mailbox.changed"), "the fact");
      const data = /data: (.*)/.exec(stream.text())?.[1] ?? "";
      assert.deepEqual({ ...JSON.parse(data), at: "" }, { at: "", ...changed("m1") });
      stream.socket.destroy();
    }));

  test("tells only the mailbox and the kinds that are asked for", () =>
    withNode(async (node) => {
      const one = await open(node, "/api/v1/events?mailbox=m2");
      const kinds = await open(node, "/api/v1/events?kind=mailbox.removed,service.warned");
      const requests = await open(node, "/api/v1/events?kind=http.answered");
      node.facts.emit(changed("m1"));
      node.facts.emit(changed("m2"));
      node.facts.emit({ kind: "mailbox.removed", mailbox: "m1" });
      await node.call("GET", "/healthz");
      await eventually(() => one.text().includes('"m2"'), "the mailbox");
      await eventually(() => kinds.text().includes("mailbox.removed"), "the kind");
      await eventually(() => requests.text().includes("/healthz"), "the request");
      assert.ok(!one.text().includes('"m1"') && !one.text().includes("http.answered"));
      assert.ok(!kinds.text().includes("mailbox.changed"));
      for (const { socket } of [one, kinds, requests]) socket.destroy();
    }));

  test("tells a renamed kind also to who asks for its name of 0.1", () =>
    withNode(async (node) => {
      const stream = await open(node, "/api/v1/events?kind=mail.tidied");
      node.facts.emit(changed("m1"));
      node.facts.emit({ kind: "mail.after_delivery_done", mailbox: "m1", folder: "INBOX", count: 1 });
      await eventually(() => stream.text().includes("event: mail.after_delivery_done"), "the fact");
      assert.ok(!stream.text().includes("mailbox.changed"));
      stream.socket.destroy();
    }));

  test("outlives twelve silent seconds", () =>
    withNode(async (node) => {
      const stream = await open(node, "/api/v1/events?mailbox=m1");
      await sleep(12_000);
      node.facts.emit(changed("m1"));
      await eventually(() => stream.text().includes("mailbox.changed"), "a fact after silence");
      assert.equal(stream.ended(), false);
      stream.socket.destroy();
    }));

  test("cuts a reader that does not read, without holding what it did not take, and the others go on", () =>
    withNode(async (node) => {
      const slow = await open(node, "/api/v1/events?kind=service.warned");
      const quick = await open(node, "/api/v1/events?kind=service.warned");
      slow.socket.pause();
      const about = "x".repeat(10_000);
      for (let i = 0; i < 4000; i++) {
        node.facts.emit({ kind: "service.warned", about });
        if (i % 20 === 0) await sleep(1);
      }
      node.facts.emit({ kind: "service.warned", about: "the last one" });
      await eventually(() => quick.text().includes("the last one"), "the quick reader's last fact");
      slow.socket.resume();
      await eventually(() => slow.ended(), "the slow reader's end");
      assert.ok(!slow.text().includes("the last one"));
      assert.ok(slow.text().length < 30_000_000, `${slow.text().length} bytes were kept for it`);
      quick.socket.destroy();
    }));

  test("is left behind without a trace by a reader that goes away", () =>
    withNode(async (node) => {
      let listening = 0;
      const { subscribe } = node.facts;
      node.facts.subscribe = (listener) => {
        listening += 1;
        const leave = subscribe(listener);
        return () => {
          listening -= 1;
          leave();
        };
      };
      const streams = await Promise.all(Array.from({ length: 5 }, () => open(node, "/api/v1/events")));
      assert.equal(listening, 5);
      for (const { socket } of streams) socket.destroy();
      await eventually(() => listening === 0, "all readers to be forgotten");
    }));

  test("ends when the node stops", () =>
    withNode(async (node) => {
      const stream = await open(node, "/api/v1/events");
      node.stop();
      await eventually(() => /\r\n0\r\n/.test(stream.text()) || stream.ended(), "the end of the stream");
      stream.socket.destroy();
    }));
});

const isTaken = (port: number) => (error: unknown) =>
  error instanceof Problem && error.code === "config" && error.message.includes(`${port} is in use`);

describe("the server", () => {
  const where = { host: "127.0.0.1", port: 0 };

  test("finishes what is in flight when it closes, and takes nothing new", async () => {
    const begun = Promise.withResolvers<void>();
    const served = await serve(async () => {
      begun.resolve();
      await sleep(300);
      return new Response("whole");
    }, where);
    const answer = fetch(served.url).then((response) => response.text());
    await begun.promise;
    const closed = served.close();
    assert.equal(await answer, "whole");
    await closed;
    await assert.rejects(fetch(served.url));
  });

  test("closes although clients keep idle connections open", async () => {
    const served = await serve(() => new Response("ok"), where);
    const socket = connect(served.port, "127.0.0.1");
    socket.on("error", () => {});
    socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    await new Promise((resolve) => socket.once("data", resolve));
    const ended = new Promise((resolve) => socket.once("close", resolve));
    await served.close();
    await served.close();
    await ended;
  });

  test("cuts a response that never ends", async () => {
    using clock = movableClock();
    const begun = Promise.withResolvers<void>();
    const pull = () => (begun.resolve(), new Promise<void>(() => {}));
    const served = await serve(() => new Response(new ReadableStream({ pull })), where);
    const answer = fetch(served.url)
      .then((response) => response.text())
      .catch(() => "cut");
    await begun.promise;
    const closed = served.close();
    await clock.advance(5_000);
    await closed;
    assert.ok(["cut", ""].includes(await answer));
  });

  test("names the port that is taken", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const address = other.address();
    assert.ok(address !== null && typeof address === "object");
    const { port } = address;
    await assert.rejects(
      serve(() => new Response(""), { host: "127.0.0.1", port }),
      isTaken(port),
    );
    other.close();
  });

  test("shares its port with no other service, and the port is free after its end", async () => {
    const first = await serve(() => new Response("first"), where);
    const { port } = first;
    const second = () => serve(() => new Response("second"), { ...where, port });
    await assert.rejects(second(), isTaken(port));
    await first.close();
    const served = await second();
    assert.equal(await (await fetch(served.url)).text(), "second");
    await served.close();
  });
});
