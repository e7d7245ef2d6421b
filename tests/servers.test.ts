/** Proves the room of test servers: what other tests rely on when they say that a server did this or that. */
import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { Webhook } from "standardwebhooks";
import { type KeyPair, makeCertificates } from "./servers/certificates.ts";
import { startEndpoint } from "./servers/endpoint.ts";
import { startImapServer } from "./servers/imap/server.ts";
import { findProgram } from "./servers/install.ts";
import { message, numbered } from "./servers/mail.ts";
import { oddMessages } from "./servers/odd-mail.ts";
import { run, startProgram, temporaryFolder } from "./servers/program.ts";
import { rabbitMqOrSkip, redisOrSkip } from "./servers/provide.ts";
import { startProxy } from "./servers/proxy.ts";
import { eventually } from "./servers/waiting.ts";

test("the good certificate is trusted, the expired one and the one for a wrong name are not", async (t) => {
  const certificates = await makeCertificates();
  const outcome = async (pair: KeyPair): Promise<string> => {
    const server = await startEndpoint({ tls: pair });
    t.after(server.stop);
    return new Promise((resolve) => {
      const socket = connectTls({ host: "localhost", port: server.port, ca: certificates.ca, servername: "localhost" });
      socket.once("secureConnect", () => resolve("trusted")).once("error", (error: Error) => resolve(error.message));
      t.after(() => void socket.destroy());
    });
  };
  assert.equal(await outcome(certificates.server), "trusted");
  assert.match(await outcome(certificates.expired), /expired|unable to verify/);
  assert.match(await outcome(certificates.wrongName), /does not match/);
});

test("messages have CRLF line ends, the wanted size, and a number to be found by", () => {
  const raw = numbered(17, { bytes: 9000 });
  assert.ok(raw.length >= 9000 && raw.length < 9100, String(raw.length));
  assert.match(raw.toString(), /^Subject: Message 17\r$/m);
  assert.doesNotMatch(raw.toString(), /[^\r]\n/);
  assert.match(message({ messageId: null }).toString(), /^(?!.*Message-ID).*$/s);
});

test("every odd message can be built, the large one with 60 MB", () => {
  for (const [name, build] of Object.entries(oddMessages)) {
    const raw = build();
    assert.ok(raw.length > 0, name);
    if (name === "largeAttachment") assert.ok(raw.length > 80_000_000);
  }
});

test("the endpoint tells good signatures from bad ones and notices repeats", async (t) => {
  const endpoint = await startEndpoint();
  t.after(endpoint.stop);
  const post = (id: string, secret = endpoint.secret): Promise<number> => postWebhook(endpoint.url, id, secret);
  assert.equal(await post("one"), 200);
  assert.equal(await post("one"), 200);
  assert.equal(await post("two", `whsec_${Buffer.alloc(32, 1).toString("base64")}`), 200);
  assert.deepEqual(
    endpoint.requests.map((request) => request.verified),
    [true, true, false],
  );
  assert.equal(endpoint.received.length, 2);
  assert.equal(endpoint.repeats.length, 1);
  assert.deepEqual(endpoint.byId("one")[1]?.json, { type: "test" });
  await assert.rejects(endpoint.waitFor(2, 50), /waited in vain for 2 messages: 3 requests .*1 messages received/s);
});

test("the endpoint refuses, delays, closes and comes back on the same port", async (t) => {
  const endpoint = await startEndpoint();
  t.after(endpoint.stop);
  const post = (id: string, ms = 10_000): Promise<number | string> =>
    postWebhook(endpoint.url, id, endpoint.secret, ms).catch(() => "no answer");
  endpoint.answer(() => ({ status: 503, headers: { "retry-after": "7" } }));
  assert.equal(await post("a"), 503);
  endpoint.answer(() => ({ closeBefore: true }));
  assert.equal(await post("b"), "no answer");
  endpoint.answer((request) => (request.id === "c" ? { hang: true } : { delayMs: 100 }));
  assert.equal(await post("c", 500), "no answer");
  assert.equal(await post("d"), 200);
  await endpoint.stop();
  assert.equal(await post("e"), "no answer");
  await endpoint.start();
  assert.equal(await post("f"), 200);
  assert.deepEqual(
    endpoint.received.map((request) => request.id),
    ["d", "f"],
  );
});

test("Python's imaplib is content with the in-process IMAP server", async (t) => {
  if (!(await findProgram("python3"))) return t.skip("no python3");
  const server = await startImapServer({ users: { ann: "secret" } });
  t.after(server.stop);
  await server.addToken("ann", "token");
  const folder = await temporaryFolder("imaplib");
  t.after(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "ca.pem"), server.ca ?? "");
  const script = new URL("servers/imap/imaplib-check.py", import.meta.url).pathname;
  const output = await run("python3", [script, `${server.imapPort}`, `${server.imapsPort}`, join(folder, "ca.pem")]);
  assert.match(output, /imaplib is content/);
});

test("the proxy delays, slows, cuts, resets, swallows and refuses, and heals", async (t) => {
  const endpoint = await startEndpoint();
  const proxy = await startProxy({ port: endpoint.port });
  t.after(endpoint.stop);
  t.after(proxy.stop);
  const ask = (): Promise<string> => bareRequest(proxy.port);
  assert.match(await ask(), /^HTTP\/1.1 200/);
  await proxy.set({ latencyMs: 150 });
  const before = performance.now();
  assert.match(await ask(), /^HTTP\/1.1 200/);
  assert.ok(performance.now() - before >= 290, "both directions are late");
  await proxy.set({ bytesPerSecond: 20 });
  assert.ok((await ask()).length < 60, "only a few bytes arrive in a second");
  await proxy.set({ truncateAfter: 5 });
  assert.equal(await ask(), "HTTP/ closed");
  await proxy.set({ reset: true });
  assert.match(await ask(), /ECONNRESET|EPIPE/);
  await proxy.set({ blackhole: true });
  assert.equal(await ask(), " silence");
  await proxy.set({ refuse: true });
  assert.match(await ask(), /ECONNREFUSED/);
  await proxy.set({});
  assert.match(await ask(), /^HTTP\/1.1 200/);
});

test("a started program ends, with its folder, when the test process is killed", async () => {
  const script = `
    import { startProgram, temporaryFolder } from "${new URL("servers/program.ts", import.meta.url).href}";
    const folder = await temporaryFolder("guarded");
    console.log((await startProgram("sleep", ["60"])).pid, folder);
    process.kill(process.pid, "SIGKILL");`;
  const file = join(await temporaryFolder("script"), "script.ts");
  await writeFile(file, script);
  const runner = await startProgram(process.execPath, [file]);
  await runner.exited;
  const [pid = "", folder = ""] = (await eventually(() => runner.output(), "its output")).trim().split(" ");
  await eventually(() => readFile(`/proc/${pid}/stat`, "utf8").then(isDead, () => true), "the end of the program");
  await eventually(() => readFile(folder).then(undefined, (error) => error.code === "ENOENT"), "the end of its folder");
  await rm(join(file, ".."), { recursive: true });
});

test("Redis keeps its data over kill -9 and is silent while it is paused", { timeout: 60_000 }, async (t) => {
  const redis = await redisOrSkip(t, { password: "p:ss word" }, { owned: true });
  if (!redis) return;
  await redis.command("SET", "key", "value");
  await redis.kill();
  await redis.start();
  assert.equal(await redis.command("GET", "key"), "value");
  await redis.pause();
  const answer = redis.command("PING");
  assert.equal(await Promise.race([answer, sleep(200, "silence")]), "silence");
  await redis.resume();
  assert.equal(await answer, "PONG");
});

test("RabbitMQ keeps its queues over kill -9", { timeout: 180_000 }, async (t) => {
  const rabbit = await rabbitMqOrSkip(t, {}, { owned: true });
  if (!rabbit) return;
  await rabbit.api("PUT", "/queues/%2F/kept", { durable: true, arguments: { "x-queue-type": "quorum" } });
  // RabbitMQ 3.10 writes down the member of a new quorum queue late: killed at once, the queue comes back dead.
  await sleep(1500);
  const publish = { properties: { delivery_mode: 2 }, routing_key: "kept", payload: "hi", payload_encoding: "string" };
  await rabbit.api("POST", "/exchanges/%2F/amq.default/publish", publish);
  await rabbit.kill();
  await rabbit.start();
  const kept = await eventually(async () => (await rabbit.queues()).find((one) => one.messages === 1), "the message");
  assert.deepEqual([kept.name, kept.type], ["kept", "quorum"]);
});

async function postWebhook(url: string, id: string, secret: string, ms = 10_000): Promise<number> {
  const body = JSON.stringify({ type: "test" });
  const now = new Date();
  const headers = {
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(now.getTime() / 1000)),
    "webhook-signature": new Webhook(secret).sign(id, now, body),
  };
  const answer = await fetch(url, { method: "POST", body, headers, signal: AbortSignal.timeout(ms) });
  await answer.text();
  return answer.status;
}

// Sends one request over a bare socket and resolves with what came of it within a second.
function bareRequest(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write("GET / HTTP/1.1\r\nHost: tests\r\n\r\n"));
    let received = "";
    const end = (how: string): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(received.includes("{}") ? received : `${received} ${how}`);
    };
    const timer = setTimeout(() => end("silence"), 1000);
    socket.on("data", (chunk) => {
      received += String(chunk);
      if (received.endsWith("{}")) end("answered");
    });
    socket.on("error", (error: NodeJS.ErrnoException) => end(error.code ?? "error"));
    socket.on("close", () => end("closed"));
  });
}

function isDead(stat: string): boolean {
  return /^\d+ \(.*\) [ZX]/.test(stat);
}
