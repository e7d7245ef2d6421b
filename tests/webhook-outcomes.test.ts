import assert from "node:assert/strict";
import { createServer, type Server, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { egress } from "../shared/egress.ts";
import type { PostOutcome } from "../worker/endpoint/endpoint.ts";
import { httpPost, type Post } from "../worker/endpoint/http.ts";
import { outcomeOfResponse, isEndpointFailure, parseRetryAfter } from "../worker/endpoint/outcome.ts";
import { type Answer, type Endpoint, startEndpoint } from "./servers/endpoint.ts";

const never = new AbortController().signal;
const HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n";

function refused(outcome: PostOutcome): Extract<PostOutcome, { kind: "refused" }> {
  assert.equal(outcome.kind, "refused", JSON.stringify(outcome));
  if (outcome.kind !== "refused") throw new Error("unreachable");
  return outcome;
}

describe("What an endpoint's behaviour comes to", () => {
  let endpoint: Endpoint;
  let post: Post;
  const servers: { server: Server; sockets: Set<Socket> }[] = [];

  before(async () => {
    endpoint = await startEndpoint({ secret: null });
    post = httpPost({ egress: egress("allow"), timeoutMs: 700 });
  });
  after(async () => {
    post.close();
    await endpoint.stop();
    for (const { server, sockets } of servers) {
      for (const socket of sockets) socket.destroy();
      server.close();
    }
  });

  async function outcomeOf(answer: Answer, body = "{}"): Promise<PostOutcome> {
    endpoint.answer(() => answer);
    return post({ url: endpoint.url, headers: {}, body }, never);
  }

  async function outcomeOfRaw(serve: (socket: Socket) => void): Promise<PostOutcome> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.once("data", () => serve(socket));
    });
    servers.push({ server, sockets });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const port = address !== null && typeof address === "object" ? address.port : 0;
    return post({ url: `http://127.0.0.1:${port}/`, headers: {}, body: "{}" }, never);
  }

  for (const status of [200, 201, 202, 204]) {
    test(`${status} accepts the message`, async () => {
      assert.equal((await outcomeOf({ status })).kind, "accepted");
    });
  }

  for (const status of [400, 401, 403, 404, 408, 422, 425, 429, 500, 502, 503, 504]) {
    test(`${status} is tried again later, and the endpoint's own words are apart from the reason`, async () => {
      const outcome = refused(await outcomeOf({ status, body: "out\r\nof \u001b[31morder" }));
      assert.deepEqual([outcome.status, outcome.retry, outcome.gone], [status, "later", false]);
      assert.match(outcome.reason, new RegExp(`^the endpoint answered ${status}( \\([a-z ]+\\))?$`));
      assert.equal(outcome.words, "out of  [31morder");
    });
  }

  test("410 ends the endpoint for good", async () => {
    const outcome = refused(await outcomeOf({ status: 410 }));
    assert.deepEqual([outcome.retry, outcome.gone], ["never", true]);
  });

  test("413 is final for this message, and says what to do", async () => {
    const outcome = refused(await outcomeOf({ status: 413 }));
    assert.deepEqual([outcome.retry, outcome.gone], ["never", false]);
    assert.match(outcome.reason, /too large.*maxAttachmentBytes/);
  });

  for (const status of [301, 302, 307, 308]) {
    test(`${status} is refused, and the redirect is not followed`, async () => {
      const headers = { location: "http://169.254.169.254/latest?token=x" };
      const earlier = endpoint.requests.length;
      const outcome = refused(await outcomeOf({ status, headers }));
      assert.match(outcome.reason, /redirects, which is not followed/);
      assert.equal(outcome.words, "to http://169.254.169.254");
      assert.equal(endpoint.requests.length, earlier + 1);
    });
  }

  test("an answer that repeats the message or the login in the URL is quoted without them", async () => {
    const body = JSON.stringify({ text: "a secret that only the message may hold, and nobody else" });
    const outcome = refused(await outcomeOf({ status: 500, body: `cannot take ${body}` }, body));
    assert.deepEqual([outcome.reason, outcome.words], ["the endpoint answered 500", "cannot take [message]"]);
  });

  test("a hanging endpoint is left at the deadline", async () => {
    const outcome = refused(await outcomeOf({ hang: true }));
    assert.deepEqual([outcome.status, outcome.retry], [null, "later"]);
    assert.match(outcome.reason, /did not answer in time/);
  });

  test("a connection closed without an answer, or nobody there at all, has a reason in words", async () => {
    assert.match(refused(await outcomeOf({ closeBefore: true })).reason, /closed the connection without an answer/);
    const nobody = await post({ url: "http://127.0.0.1:1/", headers: {}, body: "{}" }, never);
    assert.match(refused(nobody).reason, /refuses connections \(ECONNREFUSED\)/);
    const reset = await outcomeOfRaw((socket) => socket.resetAndDestroy());
    assert.match(refused(reset).reason, /closed the connection without an answer/);
  });

  test("a name that does not exist is tried again later", async () => {
    const outcome = refused(await post({ url: "http://nowhere.invalid/", headers: {}, body: "{}" }, never));
    assert.deepEqual([outcome.status, outcome.retry], [null, "later"]);
  });

  test("2xx counts once its head is there, even when the body is cut or never ends", async () => {
    assert.equal((await outcomeOf({ cut: true })).kind, "accepted");
    assert.equal((await outcomeOf({ closeAfterBody: true })).kind, "accepted");
    const cut = await outcomeOfRaw((socket) => socket.end(`${HEAD}content-length: 100\r\n\r\nx`));
    assert.equal(cut.kind, "accepted");
    const slow = await outcomeOfRaw((socket) => socket.write(`${HEAD}content-length: 100\r\n\r\nx`));
    assert.equal(slow.kind, "accepted");
  });

  test("a refusal with a body that never ends counts by its status, with the words so far", async () => {
    const outcome = refused(
      await outcomeOfRaw((socket) => socket.write("HTTP/1.1 503 No\r\ncontent-length: 9999\r\n\r\nbusy ")),
    );
    assert.deepEqual([outcome.status, outcome.words], [503, "busy"]);
  });

  test("a refusal with an endless body is read no further than needed", async () => {
    const outcome = await outcomeOfRaw((socket) => {
      socket.write("HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n");
      const flood = setInterval(() => socket.write(`1000\r\n${"x".repeat(4096)}\r\n`), 1);
      socket.once("close", () => clearInterval(flood));
    });
    assert.equal(refused(outcome).words, "x".repeat(500));
  });

  test("what is no HTTP is a fault in words", async () => {
    const outcome = await outcomeOfRaw((socket) => socket.end("SSH-2.0-OpenSSH_9.2\r\n"));
    assert.match(refused(outcome).reason, /does not speak HTTP/);
  });

  test("Retry-After is honoured in both forms, between a second and an hour", async () => {
    const outcome = refused(await outcomeOf({ status: 429, headers: { "retry-after": "120" } }));
    const wait = (outcome.retryAt?.getTime() ?? 0) - Date.now();
    assert.ok(wait > 100_000 && wait <= 120_000);
    const now = new Date("2026-01-05T09:00:00.000Z");
    const forms: [string | undefined, number | null][] = [
      ["30", 30],
      ["Mon, 05 Jan 2026 09:02:00 GMT", 120],
      ["Mon, 05 Jan 2026 08:00:00 GMT", 1],
      ["0", 1],
      ["999999999", 3600],
      ["soon", null],
      ["", null],
      [undefined, null],
    ];
    for (const [value, seconds] of forms) {
      const at = parseRetryAfter(value, now);
      assert.equal(at === null ? null : (at.getTime() - now.getTime()) / 1000, seconds, value);
    }
  });

  test("only what concerns the endpoint as a whole counts as its trouble", () => {
    const statuses = [200, 302, 400, 401, 404, 410, 413, 422, 429, 500];
    const trouble = statuses.filter((status) =>
      isEndpointFailure(outcomeOfResponse({ status, headers: {}, text: "" }, () => ({ secrets: [] }), 1, new Date())),
    );
    assert.deepEqual(trouble, [302, 401, 404, 429, 500]);
  });
});
