/** What a stranger may send by HTTP: heads that mean something, bodies that come, JSON of some levels, some event streams. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { text as textOf } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { after, before, describe, test } from "node:test";
import { parseJson, readBody } from "../api/http/body.ts";
import { type RunningServer, serve } from "../api/http/server.ts";
import { createStreamSeats } from "../api/http/stream-seats.ts";
import { eventually } from "./servers/waiting.ts";
import { Problem } from "../shared/contract/problem.ts";

const handled: string[] = [];
const failures: unknown[] = [];
async function handle(asked: Request): Promise<Response> {
  const { pathname } = new URL(asked.url);
  handled.push(pathname);
  if (asked.method !== "POST") return new Response("fine");
  if (pathname === "/refused") return new Response("no", { status: 401 });
  try {
    return new Response(await readBody(asked, 1_000_000, { ms: 300, bytesPerMs: 1_000 }));
  } catch (error) {
    failures.push(error);
    return new Response(String(error), { status: 504, headers: { connection: "close" } });
  }
}

describe("The HTTP server", () => {
  let server: RunningServer;
  before(async () => {
    server = await serve(handle, { host: "127.0.0.1", port: 0 });
  });
  after(() => server.close());
  const answerTo = (bytes: string) => {
    const socket = connect(server.port, "127.0.0.1");
    socket.write(bytes);
    return textOf(socket);
  };

  test("accepts many connections in few turns of its event loop, because a turn of a busy process takes long", async () => {
    const sockets = Array.from({ length: 64 }, () => connect(server.port, "127.0.0.1"));
    let turns = 0;
    let counting = setImmediate(function count() {
      turns++;
      counting = setImmediate(count);
    });
    const answers = sockets.map(async (socket) => {
      socket.write("GET /many HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
      assert.match(await textOf(socket), /^HTTP\/1\.1 200 /);
    });
    await Promise.all(answers).finally(() => clearImmediate(counting));
    assert.ok(turns < 48, `${turns} turns`);
  });

  for (const [name, target, hosts] of [
    ["two slashes", "//", ["x"]],
    ["the address of another server as path", "//evil.example/a", ["x"]],
    ["an empty Host", "/a", [""]],
    ["two Hosts", "/a", ["x", "y"]],
    ["twice the same Host", "/a", ["x", "x"]],
    ["a Host with a user", "/a", ["me@x"]],
    ["a Host with a path", "/a", ["x/b"]],
    ["a Host with a blank", "/a", ["x y"]],
    ["a Host with a backslash", "/a", ["x\\y"]],
    ["a Host with a port that cannot be", "/a", ["x:99999"]],
    ["a Host with half an address", "/a", ["[::1"]],
    ["an escaped Host", "/a", ["%00"]],
  ] as const) {
    test(`answers 400 to ${name}, and nobody hears of it`, async () => {
      handled.length = 0;
      const head = hosts.map((host) => `Host: ${host}\r\n`).join("");
      const answer = await answerTo(`GET ${target} HTTP/1.1\r\n${head}Connection: close\r\n\r\n`);
      assert.match(answer, /^HTTP\/1\.1 400 /);
      assert.deepEqual(handled, []);
    });
  }

  test("answers 400 to HTTP/1.0 without a Host, and goes on", async () => {
    assert.match(await answerTo("GET /a HTTP/1.0\r\n\r\n"), /^HTTP\/1\.[01] 400 /);
    for (const host of ["x", "X.example:80", "a_b-c.example", "127.0.0.1:8080", "[::1]:80"])
      assert.match(
        await answerTo(`GET /a//b HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`),
        /^HTTP\/1\.1 200 /,
      );
  });

  test("answers 400 to two lengths of a body, also if they are the same", async () => {
    handled.length = 0;
    for (const second of ["2", "3"]) {
      const lengths = `Content-Length: 2\r\nContent-Length: ${second}\r\n`;
      const answer = await answerTo(`POST /a HTTP/1.1\r\nHost: x\r\n${lengths}Connection: close\r\n\r\n{}`);
      assert.match(answer, /^HTTP\/1\.1 400 /);
    }
    assert.deepEqual(handled, []);
  });

  test("ends the connection of somebody who goes on sending a body after the answer", async () => {
    const socket = connect(server.port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write("POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{");
    const ended = textOf(socket);
    for (let sent = 0; !socket.closed && sent < 900; sent++) {
      socket.write("a");
      await sleep(50);
    }
    assert.ok(socket.closed, "it is still open");
    assert.match(await ended, /^HTTP\/1\.1 401 /);
  });

  test("takes a body whose sender goes away for malformed, and not for a fault of its own", async () => {
    failures.length = 0;
    const socket = connect(server.port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write("POST /half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{");
    await eventually(() => handled.includes("/half"), "the request");
    socket.destroy();
    await eventually(() => failures.length > 0, "its end");
    const [failure] = failures;
    assert.ok(failure instanceof Problem && ["malformed", "timeout"].includes(failure.code), String(failure));
  });

  test("cuts off who sends a body more slowly than its length allows", async () => {
    const socket = connect(server.port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write("POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    const ended = textOf(socket);
    for (let sent = 0; !socket.closed && sent < 900; sent++) {
      socket.write("a");
      await sleep(50);
    }
    assert.match(await ended, /came too slowly/);
    const whole = await answerTo(`POST /q HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell`);
    assert.match(whole, /well$/);
  });
});

test("JSON may have 64 levels, and brackets in its texts are none", () => {
  assert.ok(Array.isArray(parseJson(deep(64))));
  for (const text of [
    deep(65),
    "[".repeat(500_000),
    '{"a":'.repeat(65) + "1" + "}".repeat(65),
    '["\\\\",' + deep(64) + "]",
  ])
    assert.throws(
      () => parseJson(text),
      (error) => error instanceof Problem && error.code === "malformed" && /64/.test(error.message),
    );
  for (const inside of ["[".repeat(100), '\\"' + "{".repeat(100), "\\\\"]) {
    const text = JSON.stringify([inside, [1]]);
    assert.deepEqual(parseJson(text), [inside, [1]]);
  }
});

test("one caller may have twenty event streams, and all callers together two hundred", () => {
  const seats = createStreamSeats();
  const taken = Array.from({ length: 20 }, () => seats.take("a"));
  assert.throws(() => seats.take("a"), isFull);
  taken[0]?.[Symbol.dispose]();
  taken[0]?.[Symbol.dispose]();
  seats.take("a");
  assert.throws(() => seats.take("a"), isFull);
  for (let caller = 0; caller < 9; caller++) for (let n = 0; n < 20; n++) seats.take(`b${caller}`);
  assert.throws(() => seats.take("c"), isFull);
});

const deep = (levels: number) => "[".repeat(levels) + "]".repeat(levels);
const isFull = (error: unknown) => error instanceof Problem && error.code === "streams";
