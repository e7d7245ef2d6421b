import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { after, describe, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { egress } from "../shared/egress.ts";
import { mimeParser } from "../shared/mail/mime/parse.ts";
import { encodeBase64 } from "../worker/endpoint/base64.ts";
import { type Body, bodyLength, bodyParts, startOfBody } from "../worker/endpoint/body.ts";
import { httpPost } from "../worker/endpoint/http.ts";
import { filesInJson } from "../worker/endpoint/json-body.ts";
import { makeCertificates } from "./servers/certificates.ts";
import { message } from "./servers/mail.ts";
import { listenOn } from "./servers/ports.ts";

const never = new AbortController().signal;
const closing: (() => unknown)[] = [];
after(async () => {
  for (const close of closing) await close();
});

const sha256 = (bytes: Uint8Array | string) => createHash("sha256").update(bytes).digest("hex");

function whole(body: Body): Buffer {
  return Buffer.concat(Array.from(bodyParts(body), (part) => Buffer.from(part)));
}

/** JSON with these files and this text, and the same made by the runtime. */
async function jsonWith(files: Buffer[], text = '"'): Promise<{ body: Body; expected: string }> {
  const marks = filesInJson(1_000_000);
  const body = await marks.write({ text, files: files.map((file) => marks.base64(file)), after: { text, short: "ü" } });
  const encoded = files.map((file) => file.toString("base64"));
  return { body, expected: JSON.stringify({ text, files: encoded, after: { text, short: "ü" } }) };
}

describe("Base64", () => {
  test("is that of the runtime, at every length and for every byte", () => {
    const all = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    for (const bytes of [...Array.from({ length: 10 }, (_, length) => randomBytes(length)), all]) {
      const letters = Buffer.alloc(400);
      const length = encodeBase64(bytes, letters);
      assert.equal(letters.toString("latin1", 0, length), bytes.toString("base64"));
    }
  });
});

describe("A body with files", () => {
  test("is the JSON that the runtime makes, however large its files are, and can be read again", async () => {
    for (const sizes of [[], [0, 1], [200_000], [3, 196_608, 786_432, 786_433, 2_000_000, 5]]) {
      const { body, expected } = await jsonWith(sizes.map((size) => randomBytes(size)));
      for (let time = 0; time < 2; time++) assert.equal(sha256(whole(body)), sha256(expected));
      assert.equal(bodyLength(body), Buffer.byteLength(expected));
      assert.equal(
        Buffer.from(startOfBody(body, 1000)).toString("latin1"),
        Buffer.from(expected).toString("latin1", 0, 1000),
      );
    }
  });

  test("is the JSON that the runtime makes, however long its texts are", async () => {
    for (const piece of ['\u0001"\\', "ü", "\u{1F389}", "x\u{1F389}"])
      for (const length of [131_071, 131_072, 131_073, 400_000]) {
        const { body, expected } = await jsonWith([randomBytes(200_000)], piece.repeat(length / piece.length));
        assert.equal(sha256(whole(body)), sha256(expected));
        assert.equal(bodyLength(body), Buffer.byteLength(expected));
      }
  });

  test("reaches an endpoint that reads slowly, with TLS and without, and again after a refusal", async () => {
    const hashes: string[] = [];
    const serve = async (request: IncomingMessage) => {
      const hash = createHash("sha256");
      for await (const chunk of request) {
        hash.update(chunk as Buffer);
        await turn();
      }
      return hashes.push(hash.digest("hex"));
    };
    const certificates = await makeCertificates();
    const post = httpPost({ egress: egress("allow"), timeoutMs: 60_000, ca: certificates.ca });
    closing.push(post.close);
    const { body, expected } = await jsonWith([randomBytes(20_000_000), randomBytes(10), randomBytes(900_000)]);
    const answer: Parameters<typeof createServer>[1] = async (request, response) => {
      const count = await serve(request);
      response.writeHead(count % 2 === 1 ? 503 : 204).end();
    };
    const servers = { http: createServer(answer), https: createTlsServer(certificates.server, answer) };
    for (const [scheme, server] of Object.entries(servers)) {
      closing.push(
        () => server.close(),
        () => server.closeAllConnections(),
      );
      const port = await listenOn(server, 0, "127.0.0.1");
      const url = `${scheme}://127.0.0.1:${port}/`;
      assert.equal((await post({ url, headers: {}, body }, never)).kind, "refused");
      assert.equal((await post({ url, headers: {}, body }, never)).kind, "accepted");
    }
    assert.deepEqual(hashes, Array(4).fill(sha256(expected)));
  });

  test("does not wait for an endpoint that hangs up before it has all", async () => {
    const server = createServer((request) => void request.once("data", () => request.socket.destroy()));
    closing.push(() => server.close());
    const port = await listenOn(server, 0, "127.0.0.1");
    const post = httpPost({ egress: egress("allow"), timeoutMs: 60_000 });
    closing.push(post.close);
    const { body } = await jsonWith([randomBytes(30_000_000)]);
    const outcome = await post({ url: `http://127.0.0.1:${port}/`, headers: {}, body }, never);
    assert.match(outcome.kind === "refused" ? outcome.reason : "", /closed the connection/);
  });
});

describe("Files of a large message", () => {
  test("come from the parser's thread whole, and the message stays as it was", async () => {
    const files = [randomBytes(2_000_000), randomBytes(300_000), Buffer.from("small")];
    const parts = files.map((content, n) => ({ filename: `${n}.bin`, type: "application/octet-stream", content }));
    const encoded = message({ text: "Hello", attachments: parts });
    // A file without a transfer encoding lies in the message itself.
    const plain = Buffer.concat([
      Buffer.from('Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: application/x-text\r\n\r\n'),
      Buffer.alloc(1_000_000, "plain "),
      Buffer.from("\r\n--b\r\nContent-Type: application/x-text\r\n\r\nlittle\r\n--b--\r\n"),
    ]);
    const parser = mimeParser();
    closing.push(() => parser.close());
    const expected = [files, [Buffer.alloc(1_000_000, "plain "), Buffer.from("little")]];
    for (const [index, raw] of [encoded, plain].entries()) {
      const before = sha256(raw);
      const { attachments } = await parser.parse(raw, { maxAttachmentBytes: 60_000_000 });
      assert.deepEqual(
        attachments.map(({ content }) => content && sha256(content)),
        expected[index]?.map(sha256),
      );
      assert.equal(sha256(raw), before);
    }
  });
});
