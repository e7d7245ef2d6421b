/** A digest of a password that a server repeats is as good as the password for somebody who can guess: it is not shown. */
import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { createServer, type Socket } from "node:net";
import { describe, test } from "node:test";
import { startApi } from "./api-node.ts";

const PASSWORD = "autumn-leaves";
const FORMS: ((digest: string) => string)[] = [
  (digest) => digest,
  (digest) => digest.toUpperCase(),
  (digest) => Buffer.from(`u ${digest}`).toString("base64"),
  (digest) => [...digest].toReversed().join(""),
  (digest) => digest.slice(0, 20),
];

/** A server that answers each line by `answer`. */
async function withServer(
  greeting: string,
  answer: (line: string) => string,
  work: (port: number) => Promise<void>,
): Promise<void> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    let buffered = "";
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk) => {
      buffered += chunk.toString("latin1");
      const lines = buffered.split("\r\n");
      buffered = lines.pop() ?? "";
      for (const line of lines) socket.write(`${answer(line)}\r\n`);
    });
    socket.write(`${greeting}\r\n`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  try {
    await work(typeof address === "object" && address ? address.port : 0);
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}

const deliver = { url: "http://127.0.0.1:9/" };
const auth = { user: "u", password: PASSWORD };

/** What a validation of this mailbox says, and all facts. */
async function validate(mailbox: object): Promise<string> {
  const node = await startApi({ API_TOKENS: "tok-0123456789abcdef" });
  try {
    const headers = { authorization: "Bearer tok-0123456789abcdef" };
    const { status, text } = await node.call("POST", "/api/v1/mailboxes/validate", mailbox, headers);
    assert.equal(status, 200, text);
    return text + JSON.stringify(node.told);
  } finally {
    await node.close();
  }
}

function hides(shown: string, digest: string, repeated: string): void {
  assert.match(shown, /denied \[secret\]/, shown);
  for (const part of [digest.slice(0, 8), digest.slice(-8), repeated.slice(0, 10)])
    assert.ok(!shown.toLowerCase().includes(part.toLowerCase()), shown);
}

describe("a digest that a server repeats is hidden", () => {
  for (const [n, form] of FORMS.entries()) {
    test(`that of APOP, form ${n}`, () => {
      const timestamp = "<1896.697170952@mail.example.test>";
      const digest = createHash("md5")
        .update(timestamp + PASSWORD)
        .digest("hex");
      const answer = (line: string) =>
        line.startsWith("APOP")
          ? `-ERR [AUTH] ${line.includes(digest) ? "denied" : "wrong"} ${form(digest)}`
          : "+OK\r\n.";
      return withServer(`+OK ready ${timestamp}`, answer, async (port) => {
        const receive = { protocol: "pop3", host: "127.0.0.1", port, tls: "none", apop: true, auth };
        hides(await validate({ address: "u@example.test", receive, deliver }), digest, form(digest));
      });
    });

    test(`that of CRAM-MD5, form ${n}`, () => {
      const challenge = "<17893.1320671528@mail.example.test>";
      const digest = createHmac("md5", PASSWORD).update(challenge).digest("hex");
      const said = Buffer.from(`u ${digest}`).toString("base64");
      const answer = (line: string) => {
        if (/^[EH]/.test(line)) return "250-hi\r\n250 AUTH CRAM-MD5";
        if (line.startsWith("AUTH")) return `334 ${Buffer.from(challenge).toString("base64")}`;
        return line === said ? `535 5.7.8 denied ${form(digest)}` : "250 ok";
      };
      return withServer("220 hi", answer, async (port) => {
        const send = { host: "127.0.0.1", port, tls: "none", auth };
        const receive = { protocol: "imap", host: "127.0.0.1", port, tls: "none", auth };
        hides(await validate({ address: "u@example.test", receive, send, deliver }), digest, form(digest));
      });
    });
  }
});
