/** Proves that the fake Graph server fails on command, as Graph and its login server fail. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ANN, ask, type Json, json, withAnn } from "./servers/graph/asking.ts";
import { CONTENT_ERRORS, MAIL_ERRORS, TOKEN_ERRORS } from "./servers/graph/errors.ts";
import { numbered } from "./servers/mail.ts";

const INBOX = `users/${ANN}/mailFolders/inbox`;

describe("the fake Graph server's faults", () => {
  test("every error that administrators meet comes on command, in the form of its server", async (t) => {
    const server = await withAnn(t);
    const url = `${server.tokenRoot}/${server.tenant}/oauth2/v2.0/token`;
    for (const number of TOKEN_ERRORS) {
      server.faults.once("token", { aadsts: number });
      const said = (await (await fetch(url, { method: "POST" })).json()) as Json;
      assert.deepEqual(said["error_codes"], [number]);
      assert.match(String(said["error_description"]), new RegExp(`^AADSTS${number}: .*Trace ID: .*Timestamp: `));
    }
    for (const [name, fault] of Object.entries(MAIL_ERRORS)) {
      server.faults.once("getFolder", fault, { user: ANN });
      const answer = await ask(server, INBOX);
      const text = await answer.text();
      assert.equal(answer.status, fault.status, name);
      if ("code" in fault) assert.equal((JSON.parse(text) as { error: Json }).error["code"], fault.code, name);
      if ("retryAfter" in fault) assert.equal(answer.headers.get("retry-after"), fault.retryAfter);
    }
    assert.equal(server.faults.left(), 0);
    assert.equal((await json(server, INBOX))["displayName"], "Inbox");
  });

  test("single messages cannot be read, for each reason that is known, and others can", async (t) => {
    const server = await withAnn(t);
    const [id, other] = await server.appendMany(ANN, "inbox", [numbered(1), numbered(2, { bytes: 2000 })]);
    const content = (of: string | undefined) => ask(server, `users/${ANN}/messages/${of}/$value`);
    for (const error of CONTENT_ERRORS) {
      server.refuseContent(id ?? "", error);
      const answer = await content(id);
      assert.equal(answer.status, error.status);
      assert.ok((await answer.text()).includes(error.code));
      assert.equal((await content(other)).status, 200);
    }
    server.refuseContent(id ?? "", undefined);
    assert.equal((await content(id)).status, 200);
    server.behaviour.mostValueBytes = 1000;
    assert.deepEqual([(await content(id)).status, (await content(other)).status], [200, 504]);
  });

  test("an answer that is cut anywhere is never taken for a whole one", async (t) => {
    const server = await withAnn(t);
    const raw = numbered(1);
    const id = await server.append(ANN, "inbox", raw);
    // On a connection that was used before, a client may ask again when it is cut.
    const headers = { connection: "close" };
    const read = async (path: string) => Buffer.from(await (await ask(server, path, { headers })).arrayBuffer());
    const places = { getFolder: INBOX, getContent: `users/${ANN}/messages/${id}/$value` };
    for (const [operation, path] of Object.entries(places)) {
      for (let bytes = 0; bytes < raw.length; bytes += 23) {
        server.faults.once(operation, { cut: bytes });
        await assert.rejects(read(path), `${operation} after ${bytes} bytes`);
      }
      server.faults.once(operation, { pieceBytes: 50, everyMs: 1 });
      assert.ok((await read(path)).length > 100);
    }
    assert.deepEqual(await read(places.getContent), raw);
  });

  test("a download counts among the requests at once until its last byte is out", async (t) => {
    const server = await withAnn(t);
    const id = await server.append(ANN, "inbox", numbered(1, { bytes: 2000 }));
    server.limits.atOnce = 1;
    server.faults.once("getContent", { pieceBytes: 500, everyMs: 300 });
    const download = await ask(server, `users/${ANN}/messages/${id}/$value`);
    assert.equal((await ask(server, INBOX)).status, 429);
    await download.arrayBuffer();
    assert.equal((await ask(server, INBOX)).status, 200);
    assert.ok(!JSON.stringify(server.requests).includes("Bearer"), "the log holds no token");
  });
});
