import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { createServer as createNetServer, type Server, type Socket } from "node:net";
import { after, describe, test } from "node:test";
import * as v from "valibot";
import { Mailbox, MailboxInput } from "../shared/contract/mailbox.ts";
import { MessageReceived } from "../shared/contract/received.ts";
import { Secret } from "../shared/contract/secret.ts";
import { egress } from "../shared/egress.ts";
import { parseMessage } from "../shared/mail/mime/message.ts";
import type { DeliverableMessage, WireRequest } from "../worker/endpoint/endpoint.ts";
import { httpPost } from "../worker/endpoint/http.ts";
import { makeCertificates } from "./servers/certificates.ts";
import { type Endpoint, startEndpoint } from "./servers/endpoint.ts";
import { message } from "./servers/mail.ts";
import { ENCODERS } from "../worker/endpoint/dialect.ts";

const never = new AbortController().signal;
const closing: (() => void | Promise<void>)[] = [];
after(async () => {
  for (const close of closing) await close();
});

async function started(options: Parameters<typeof startEndpoint>[0] = {}): Promise<Endpoint> {
  const endpoint = await startEndpoint(options);
  closing.push(() => endpoint.stop());
  return endpoint;
}

function client(options: Partial<Parameters<typeof httpPost>[0]> = {}) {
  const post = httpPost({ egress: egress("allow"), timeoutMs: 5000, ...options });
  closing.push(post.close);
  return post;
}

async function letterFor(
  deliver: Partial<Mailbox["deliver"]> & { url: string },
  raw?: Buffer,
): Promise<DeliverableMessage> {
  const bytes =
    raw ?? message({ subject: "Grüße", text: "Hello\r\n", attachments: [{ filename: "a", content: "abc" }] });
  const auth = { user: "u", password: "p" };
  const input = { address: "help@receiver.example", receive: { protocol: "imap", host: "h.example", auth } };
  const { id: _none, send: _send, ...parsedInput } = v.parse(MailboxInput, { ...input, deliver: { url: deliver.url } });
  const { receive: received } = parsedInput;
  assert.ok(received.protocol === "imap");
  const mailbox: Mailbox = {
    ...parsedInput,
    id: "box-1",
    receive: { ...received, auth: { user: "u", password: new Secret("p") } },
    deliver: { format: "full", dialect: "webhook", maxAttachmentBytes: 1000, ...deliver },
    paused: false,
    endpointGone: false,
    revision: 1,
    createdAt: "",
    updatedAt: "",
  };
  return {
    deliveryId: "msg_abcdefghijklmnopqrstuvwxyz",
    mailbox,
    ref: { folder: "Büro/Ein%gang", epoch: "170", uid: 12, size: bytes.length, receivedAt: "2026-01-05T09:00:00.000Z" },
    flags: ["\\Seen", "$Label"],
    raw: bytes,
    parsed: await parseMessage(bytes, { maxAttachmentBytes: 1000 }),
  };
}

async function encode(letter: DeliverableMessage, now = new Date()): Promise<WireRequest> {
  return ENCODERS.webhook(letter, now);
}

const plain = (url: string, headers: Record<string, string> = {}): WireRequest => ({ url, headers, body: "{}" });

/** A name server that has the same addresses for every name. */
function resolving(...addresses: string[]) {
  return async () => addresses.map((address) => ({ address, family: 4 }));
}

/** A TCP server that does as it likes with each connection. */
async function rawServer(serve: (socket: Socket) => void): Promise<{ url: string; connections: () => number }> {
  let connections = 0;
  const sockets = new Set<Socket>();
  const server: Server = createNetServer((socket) => {
    connections++;
    sockets.add(socket);
    socket.on("error", () => undefined);
    serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  closing.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const port = address !== null && typeof address === "object" ? address.port : 0;
  return { url: `http://127.0.0.1:${port}/`, connections: () => connections };
}

describe("The webhook dialect", () => {
  test("arrives as JSON of the documented shape, signed so that an independent verifier accepts it", async () => {
    const endpoint = await started();
    const letter = await letterFor({ url: `${endpoint.url}mail?x=1`, secret: new Secret(endpoint.secret) });
    const outcome = await client()(await encode(letter), never);
    assert.deepEqual([outcome.kind, outcome.status], ["accepted", 200]);
    const [request] = endpoint.received;
    assert.equal(request?.verified, true);
    assert.deepEqual([request?.path, request?.id], ["/mail?x=1", letter.deliveryId]);
    assert.match(request?.headers["user-agent"] ?? "", /^email-listener\/\d/);
    assert.equal(request?.headers["content-type"], "application/json");
    const received = v.parse(MessageReceived, request?.json);
    assert.equal(received.type, "message.received");
    assert.deepEqual(
      [received.data.folder, received.data.uid, received.data.uidValidity],
      ["Büro/Ein%gang", 12, "170"],
    );
    assert.deepEqual([received.data.subject, received.data.text?.trim()], ["Grüße", "Hello"]);
    assert.equal(received.data.attachments[0]?.content, Buffer.from("abc").toString("base64"));
  });

  test("large files arrive whole, between small ones, under a signature that an independent verifier accepts", async () => {
    const endpoint = await started();
    const secret = new Secret(endpoint.secret);
    const contents = [5, 7_000_000, 200_000, 300_000].map((bytes) => randomBytes(bytes));
    const letter = await letterFor({ url: endpoint.url, secret });
    const [file] = letter.parsed.attachments;
    assert.ok(file);
    const attachments: (typeof file)[] = contents.map((content, n) => ({
      ...file,
      filename: `file "${n}" ü`,
      content,
    }));
    attachments.splice(2, 0, { ...file, content: null });
    await client()(await encode({ ...letter, parsed: { ...letter.parsed, attachments } }), never);
    const [request] = endpoint.received;
    assert.equal(request?.verified, true);
    const encoded = attachments.map((one) => ({
      ...one,
      content: one.content && Buffer.from(one.content).toString("base64"),
    }));
    assert.deepEqual(v.parse(MessageReceived, request?.json).data.attachments, encoded);
  });

  test("keeps its id over attempts while timestamp and signature are each attempt's own", async () => {
    const letter = await letterFor({
      url: "http://x.example/",
      secret: new Secret("whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0"),
    });
    const one = await encode(letter, new Date(1_700_000_000_999));
    const two = await encode(letter, new Date(1_700_000_060_000));
    assert.equal(one.headers["webhook-id"], two.headers["webhook-id"]);
    assert.deepEqual(
      [one.headers["webhook-timestamp"], two.headers["webhook-timestamp"]],
      ["1700000000", "1700000060"],
    );
    assert.notEqual(one.headers["webhook-signature"], two.headers["webhook-signature"]);
  });

  test("leaves text, HTML and contents out in format headers, and keeps the rest", async () => {
    const { body } = await encode(await letterFor({ url: "http://x.example/", format: "headers" }));
    const { data } = v.parse(MessageReceived, JSON.parse(String(body)));
    assert.deepEqual([data.text, data.html, data.attachments[0]?.content], [null, null, null]);
    assert.deepEqual([data.attachments[0]?.filename, data.attachments[0]?.size], ["a", 3]);
    assert.ok(data.headers.length > 5);
  });

  test("carries the very bytes in format raw, with what else there is in legal headers, and signs the bytes", async () => {
    const endpoint = await started({ secret: null });
    const raw = Buffer.concat([message({ subject: "8-bit" }), Buffer.from([0xff, 0xfe, 0x00, 0x0d, 0x0a])]);
    const key = randomBytes(32);
    const secret = new Secret(`whsec_${key.toString("base64")}`);
    await client()(await encode(await letterFor({ url: endpoint.url, format: "raw", secret }, raw)), never);
    const request = endpoint.requests[0];
    assert.ok(request?.raw.equals(raw));
    const headers = request?.headers ?? {};
    assert.equal(headers["content-type"], "message/rfc822");
    assert.equal(decodeURIComponent(headers["x-email-listener-folder"] ?? ""), "Büro/Ein%gang");
    assert.deepEqual(
      ["mailbox", "address", "uid", "uid-validity", "flags"].map((name) => headers[`x-email-listener-${name}`]),
      ["box-1", "help@receiver.example", "12", "170", "\\Seen $Label"],
    );
    const signed = createHmac("sha256", key).update(`${request?.id}.${headers["webhook-timestamp"]}.`).update(raw);
    assert.equal(headers["webhook-signature"], `v1,${signed.digest("base64")}`);
  });
});

describe("A POST", () => {
  test("uses one connection for messages one after the other", async () => {
    const answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    const server = await rawServer((socket) =>
      // Head and body may come apart: the body is what is answered.
      socket.on("data", (chunk) => chunk.toString().endsWith("{}") && socket.write(answer)),
    );
    const post = client();
    for (let round = 0; round < 4; round++) assert.equal((await post(plain(server.url), never)).kind, "accepted");
    assert.equal(server.connections(), 1);
  });

  test("is repeated at once over a new connection when a kept one turns out to be dead", async () => {
    const answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    const server = await rawServer((socket) => {
      let requests = 0;
      socket.on("data", (chunk) => {
        if (!chunk.toString().endsWith("{}")) return;
        if (++requests === 1) socket.write(answer);
        else socket.destroy();
      });
    });
    const post = client();
    for (let round = 0; round < 3; round++) assert.equal((await post(plain(server.url), never)).kind, "accepted");
  });

  test("goes to an endpoint of a private authority, and to none with a bad certificate", async () => {
    const certificates = await makeCertificates();
    const post = client({ ca: certificates.ca });
    const good = await started({ tls: certificates.server, secret: null });
    for (const host of ["127.0.0.1", "localhost"]) {
      const outcome = await post(plain(good.url.replace("127.0.0.1", host)), never);
      assert.equal(outcome.kind, "accepted", JSON.stringify(outcome));
    }
    const bad: [typeof certificates.server, RegExp][] = [
      [certificates.expired, /certificate/],
      [certificates.wrongName, /certificate is for another name/],
    ];
    for (const [tls, reason] of bad) {
      const endpoint = await started({ tls, secret: null });
      const outcome = await post(plain(endpoint.url), never);
      assert.match(outcome.kind === "refused" ? outcome.reason : "accepted", reason);
      assert.equal(endpoint.requests.length, 0);
    }
    const untrusted = await client()(plain(good.url), never);
    assert.match(untrusted.kind === "refused" ? untrusted.reason : "accepted", /certificate is not trusted/);
  });

  test("never connects to an address that the egress guard forbids, whatever the name resolves to", async () => {
    const endpoint = await started({ secret: null });
    const post = client({ egress: egress("deny", { resolve: resolving("127.0.0.1") }) });
    const outcome = await post(plain(endpoint.url.replace("127.0.0.1", "crm.example")), never);
    assert.deepEqual([outcome.kind, outcome.kind === "refused" && outcome.retry], ["refused", "never"]);
    assert.equal(endpoint.requests.length, 0);
  });

  test("tries the next address of a name when one does not take connections", async () => {
    const endpoint = await started({ secret: null });
    const post = client({ egress: egress("allow", { resolve: resolving("127.0.0.9", "127.0.0.1") }) });
    assert.equal((await post(plain(endpoint.url.replace("127.0.0.1", "crm.example")), never)).kind, "accepted");
    assert.equal(endpoint.requests[0]?.headers["host"], `crm.example:${endpoint.port}`);
  });

  test("logs in with the name and password of the URL", async () => {
    const endpoint = await started({ secret: null });
    await client()(plain(endpoint.url.replace("http://", "http://ann:p%40ss@")), never);
    const expected = `Basic ${Buffer.from("ann:p@ss").toString("base64")}`;
    assert.equal(endpoint.requests[0]?.headers["authorization"], expected);
  });

  test("ends at the signal without counting as an attempt", async () => {
    const endpoint = await started({ secret: null });
    endpoint.answer(() => ({ hang: true }));
    const stop = new AbortController();
    const posting = client()(plain(endpoint.url), stop.signal);
    await endpoint.waitFor(() => true);
    stop.abort(new DOMException("stopping", "AbortError"));
    await assert.rejects(posting, { name: "AbortError" });
  });
});
