/** Exchange answers compressed although nobody asked for that: a few bytes could become any number of them. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { Secret } from "../shared/contract/secret.ts";
import { openMailbox } from "../shared/mail/open.ts";
import { all, depsFor, ewsMailbox, isProblem } from "./promises/mailbox-rig.ts";

test("a compressed answer is refused before it is read, with words that name the remedy", async () => {
  const bomb = gzipSync(Buffer.alloc(20_000_000, 32));
  const asked: unknown[] = [];
  const server = createServer((request, response) => {
    asked.push(request.headers["accept-encoding"]);
    response.writeHead(200, { "content-type": "text/xml", "content-encoding": "gzip" }).end(bomb);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : 0;
  const url = `http://127.0.0.1:${port}/EWS/Exchange.asmx`;
  const auth = { user: "u", password: new Secret("p") };
  const mailbox = ewsMailbox("u@example.com", { url, scheme: "basic", tls: "none", auth });
  const mail = openMailbox.ews(depsFor(), mailbox);
  try {
    const messages = all(mail.listSince(new Date(0), [], new AbortController().signal));
    await assert.rejects(messages, (error) => {
      assert.ok(isProblem("protocol", "never")(error), String(error));
      assert.match(String(error), /compressed its answer/);
      return true;
    });
    assert.ok(asked.length > 0 && asked.every((encoding) => encoding === undefined));
  } finally {
    await mail.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});
