/** What `validate` does with `deliver.url`: it is reached and answers in HTTP, and no program takes that for a delivery. */
import assert from "node:assert/strict";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { createServer, type Server, type Socket } from "node:net";
import { test } from "node:test";
import { probeEndpoint } from "../api/probe-endpoint.ts";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Secret } from "../shared/contract/secret.ts";
import { egress } from "../shared/egress.ts";
import { makeCertificates } from "./servers/certificates.ts";
import { listenOn } from "./servers/ports.ts";

const signal = AbortSignal.timeout(60_000);

test("a program that takes every request for a delivery does not get the one that validate makes", async () => {
  let requests = 0;
  const step = await probe(createHttpServer((_, response) => void (requests++, response.end())));
  assert.equal(step.ok, true, JSON.stringify(step));
  assert.match(step.detail ?? "", /answers HEAD with HTTP/);
  assert.equal(requests, 0);
});

test("a program that says 410 would get nothing", async () => {
  const server = createHttpServer().on("checkExpectation", (_, response) => response.writeHead(410).end());
  const step = await probe(server);
  assert.equal(step.ok, false);
  assert.match(step.cause ?? "", /410 Gone/);
});

const STRANGERS: [string, (socket: Socket) => void, RegExp][] = [
  [
    "a mail server",
    (socket) => socket.write("220 mx.example.org ESMTP\r\n221 bye\r\n".padEnd(20_000)),
    /does not answer in HTTP/,
  ],
  ["a server that hangs up", (socket) => socket.destroy(), /closed the connection without an answer|cut/],
];
for (const [name, answer, cause] of STRANGERS) {
  test(`${name} at the port of the endpoint is told as what it is`, async () => {
    const step = await probe(createServer((socket) => answer(socket.on("error", () => undefined))));
    assert.equal(step.ok, false);
    assert.match(step.cause ?? "", cause);
  });
}

test("a certificate that nobody trusts fails the step, and so does a port without TLS", async () => {
  const { server: keys } = await makeCertificates();
  const untrusted = await probe(createHttpsServer(keys), "https");
  assert.match(untrusted.cause ?? "", /certificate/i);
  const plain = await probe(createHttpServer(), "https");
  assert.match(plain.cause ?? "", /TLS/);
});

test("a port where nobody listens, and a silent one, cost this step only", async () => {
  const refused = await probeEndpoint({ egress: egress("allow") }, mailboxWith("http://127.0.0.1:1/"), signal);
  assert.match(refused.cause ?? "", /127\.0\.0\.1.*refuses connections/);
  const silent = await probe(createServer((socket) => socket.on("error", () => undefined)));
  assert.match(silent.cause ?? "", /took longer than 10 seconds/);
});

async function probe(server: Server, scheme = "http") {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket));
  const port = await listenOn(server, 0);
  try {
    return await probeEndpoint({ egress: egress("allow") }, mailboxWith(`${scheme}://127.0.0.1:${port}/hook`), signal);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

function mailboxWith(url: string): Mailbox {
  const now = new Date().toISOString();
  return {
    id: "m1",
    address: "ann@example.com",
    receive: {
      protocol: "imap",
      host: "127.0.0.1",
      tls: "none",
      auth: { user: "ann", password: new Secret("secret") },
      since: "now",
      folders: ["INBOX"],
      mode: "push",
      poll: { everySeconds: 60 },
      processLock: false,
      afterDelivery: "leave",
    },
    deliver: { url, dialect: "webhook", format: "full", maxAttachmentBytes: 1_000_000 },
    paused: false,
    endpointGone: false,
    revision: 1,
    createdAt: now,
    updatedAt: now,
  };
}
