/** Imports: good and bad lines, again and again, in pieces, by those who may, and a process that is killed in the middle. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type ApiNode, startApi } from "./api-node.ts";
import { exampleBody } from "./bodies.ts";
import { startService, TOKEN } from "./service.ts";
import { eventually } from "./servers/waiting.ts";

const ADMIN = "admin-0123456789abcdef";
const PATH = "/api/v1/mailboxes:import";
const LINES = { "content-type": "application/x-ndjson" };
const line = (id: string, changes: Record<string, unknown> = {}) => JSON.stringify(exampleBody({ id, ...changes }));

async function withNode(work: (node: ApiNode) => Promise<void>): Promise<void> {
  const node = await startApi({ API_TOKENS: ADMIN });
  try {
    await work(node);
  } finally {
    await node.close();
  }
}

async function importLines(node: ApiNode, lines: string[], token = ADMIN): Promise<any[]> {
  const headers = { ...LINES, authorization: `Bearer ${token}` };
  const reply = await node.call("POST", PATH, lines.join("\n"), headers);
  assert.equal(reply.status, 200, reply.text);
  assert.equal(reply.headers.get("content-type"), LINES["content-type"]);
  return resultsIn(reply.text);
}

const resultsIn = (text: string) =>
  text
    .split("\n")
    .filter((one) => one !== "")
    .map((one) => JSON.parse(one));

const shortOf = ({ line: number, id, result, code, errors }: any) => [number, id, result, code, errors?.[0]?.path];

describe("an import", () => {
  test("registers what each line says, and a line that is refused harms no other", () =>
    withNode(async (node) => {
      const lines = [
        line("a"),
        "",
        line("b", { receive: { protocol: "imap", auth: { user: "b", password: "p" } } }),
        "{ no JSON",
        line("c", { deliver: { url: "https://crm.example.com/mail", secret: "short" } }),
        JSON.stringify(exampleBody()),
        "[]",
        line("d", { more: "x".repeat(300_000) }),
        line("not an id"),
        line("e"),
      ];
      assert.deepEqual((await importLines(node, lines)).map(shortOf), [
        [1, "a", "created", undefined, undefined],
        [3, "b", "refused", "invalid", "receive.host"],
        [4, null, "refused", "malformed", undefined],
        [5, "c", "refused", "invalid", "deliver.secret"],
        [6, null, "refused", "invalid", "id"],
        [7, null, "refused", "invalid", ""],
        [8, null, "refused", "too_large", undefined],
        [9, "not an id", "refused", "invalid", "id"],
        [10, "e", "created", undefined, undefined],
      ]);
      const { items } = await node.store.mailboxes.list({ limit: 10 });
      assert.deepEqual(
        items.map(({ mailbox }) => mailbox.id),
        ["a", "e"],
      );
      assert.ok(node.woken.includes("a") && node.woken.includes("e"));
      const kinds = node.told.flatMap((fact) => (fact.kind === "mailbox.registered" ? [fact.mailbox] : []));
      assert.deepEqual(kinds.toSorted(), ["a", "e"]);
    }));

  test("of the same lines again changes nothing, and of others what differs", () =>
    withNode(async (node) => {
      const [first] = await importLines(node, [line("a"), line("b")]);
      assert.match(first.secret, /^whsec_/);
      const { length: wakings } = node.woken;
      const again = await importLines(node, [line("a"), line("b", { name: "B" }), line("b", { name: "C" })]);
      assert.deepEqual(
        again.map(({ id, result, revision, secret }) => [id, result, revision, secret]),
        [
          ["a", "unchanged", 1, undefined],
          ["b", "updated", 2, undefined],
          ["b", "updated", 3, undefined],
        ],
      );
      assert.deepEqual(node.woken.slice(wakings), ["b", "b"], "the subscription of what did not change goes on");
      const stored = await node.store.mailboxes.get("a");
      assert.equal(stored?.mailbox.deliver.secret?.reveal(), first.secret);
      assert.equal((await node.store.mailboxes.get("b"))?.mailbox.name, "C", "the last line counts");
    }));

  test("is for those who may register, under their prefix only, and is in the audit line by line", () =>
    withNode(async (node) => {
      const as = async (input: object) =>
        (await node.call("POST", "/api/v1/tokens", { name: "t", ...input }, { authorization: `Bearer ${ADMIN}` })).body;
      await importLines(node, [line("other-1")]);
      const reader = await as({ scopes: ["read"] });
      const headers = { ...LINES, authorization: `Bearer ${reader.token}` };
      assert.equal((await node.call("POST", PATH, line("a"), headers)).status, 403);
      const bound = await as({ scopes: ["manage"], mailboxPrefix: "acme-" });
      const results = await importLines(
        node,
        [line("acme-1"), line("other-1", { name: "mine" }), line("other-2")],
        bound.token,
      );
      assert.deepEqual(results.map(shortOf), [
        [1, "acme-1", "created", undefined, undefined],
        [2, "other-1", "refused", "not_found", undefined],
        [3, "other-2", "refused", "not_found", undefined],
      ]);
      assert.equal((await node.store.mailboxes.get("other-1"))?.mailbox.name, undefined);
      assert.equal(await node.store.mailboxes.get("other-2"), undefined);
      const { items } = await node.store.audit.list({ limit: 10, actor: bound.id });
      assert.deepEqual(
        items.map(({ mailbox, status, route }) => [mailbox, status, route]),
        [["acme-1", 201, PATH]],
      );
    }));

  test("answers while the body still comes, in pieces of any size, also where the line is cut", () =>
    withNode(async (node) => {
      const bytes = Buffer.from(`${line("a", { name: "Ä" })}\r\n${line("b")}`);
      const answered = Promise.withResolvers<void>();
      const body = new ReadableStream<Uint8Array>({
        async start(controller) {
          const end = bytes.indexOf(10);
          for (let at = 0; at <= end; at += 7) controller.enqueue(bytes.subarray(at, Math.min(at + 7, end + 1)));
          await answered.promise;
          controller.enqueue(bytes.subarray(end + 1));
          controller.close();
        },
      });
      const headers = { ...LINES, authorization: `Bearer ${ADMIN}` };
      const response = await fetch(node.url + PATH, { method: "POST", body, headers, duplex: "half" } as RequestInit);
      let text = "";
      for await (const chunk of response.body ?? []) {
        text += Buffer.from(chunk).toString();
        if (text.includes("\n")) answered.resolve();
      }
      assert.deepEqual(
        resultsIn(text).map(({ id, result }) => [id, result]),
        [
          ["a", "created"],
          ["b", "created"],
        ],
      );
      assert.equal((await node.store.mailboxes.get("a"))?.mailbox.name, "Ä");
    }));

  test("needs lines, and says so", () =>
    withNode(async (node) => {
      const headers = { authorization: `Bearer ${ADMIN}` };
      assert.equal((await node.call("POST", PATH, line("a"), headers)).status, 415);
      assert.deepEqual(await importLines(node, []), []);
    }));

  test("kill -9 in the middle loses no line that was answered, and the same lines finish it", async () => {
    const service = await startService();
    try {
      const ids = Array.from({ length: 600 }, (_, n) => `box-${n}`);
      const body = ids.map((id) => line(id)).join("\n");
      const send = () =>
        fetch(service.url + PATH, { method: "POST", body, headers: { ...LINES, authorization: `Bearer ${TOKEN}` } });
      const answered: string[] = [];
      let text = "";
      const response = await send();
      try {
        for await (const chunk of response.body ?? []) {
          text += Buffer.from(chunk).toString();
          if (text.split("\n").length > 50) await service.kill();
        }
      } catch {
        // The connection ends with the process.
      }
      for (const one of text.split("\n").slice(0, -1))
        if (JSON.parse(one).result === "created") answered.push(JSON.parse(one).id);
      assert.ok(answered.length >= 49);
      await service.start();
      for (const id of answered) assert.equal((await service.call("GET", `/api/v1/mailboxes/${id}`)).status, 200, id);
      const results = resultsIn(await (await send()).text());
      assert.deepEqual(
        results.map(({ id }) => id),
        ids,
      );
      assert.ok(results.every(({ result }) => ["created", "unchanged"].includes(result)));
      for (const { id, result } of results) if (answered.includes(id)) assert.equal(result, "unchanged");
      const total = async () => (await service.call("GET", "/api/v1/mailboxes?limit=1")).body.total === ids.length;
      await eventually(total, "all to be registered");
    } finally {
      await service.end();
    }
  });
});
