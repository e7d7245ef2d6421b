/** Proves that the delta of the fake Graph server does all that the documents allow, and forgets as Graph forgets. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ANN, ask, type Item, json, refusal, round, withAnn } from "./servers/graph/asking.ts";
import { HOSTILE } from "./servers/graph/world.ts";
import { numbered } from "./servers/mail.ts";

const INBOX = `users/${ANN}/mailFolders/inbox`;
const numbers = (count: number) => Array.from({ length: count }, (_, index) => numbered(index + 1));
const idsOf = (items: Item[]) => items.map(({ id }) => id);
const prefer = (size: number) => ({ headers: { prefer: `IdType="ImmutableId", odata.maxpagesize=${size}` } });

describe("the fake Graph server's delta", () => {
  test("delta tells every message once, in pages, and then only what changed", async (t) => {
    const server = await withAnn(t);
    const ids = await server.appendMany(ANN, "inbox", numbers(5));
    const first = await round(server, `${INBOX}/messages/delta?$select=id,receivedDateTime`, prefer(2));
    assert.equal(first.pages, 3);
    assert.deepEqual(idsOf(first.items), ids.toReversed());
    assert.deepEqual(Object.keys(first.items[0] ?? {}).toSorted(), [
      "@odata.etag",
      "@odata.type",
      "id",
      "receivedDateTime",
    ]);
    assert.deepEqual((await round(server, first.link)).items, []);
    server.remove(ANN, "inbox", ids[0] ?? "");
    server.move(ANN, ids[1] ?? "", "archive");
    server.mark(ANN, ids[2] ?? "", { isRead: true });
    const later = await server.append(ANN, "inbox", numbered(6));
    const second = await round(server, first.link.replace("/delta?", "/delta()?"));
    assert.deepEqual(idsOf(second.items), [ids[0], ids[1], ids[2], later]);
    assert.ok(second.items[0]?.["@removed"] && second.items[1]?.["@removed"]);
    assert.deepEqual(Object.keys(second.items[2] ?? {}), ["@odata.type", "id", "isRead", "parentFolderId"]);
    server.move(ANN, ids[1] ?? "", "inbox");
    assert.deepEqual((await round(server, second.link)).items, [], "known issue: what comes back is not reported");
    server.behaviour.forgetsReturned = false;
    assert.deepEqual(idsOf((await round(server, second.link)).items), [ids[1]]);
  });

  test("delta has every freedom that the documents leave it", async (t) => {
    const server = await withAnn(t);
    const ids = await server.appendMany(ANN, "inbox", numbers(5));
    Object.assign(server.behaviour, HOSTILE, { emptyPages: 2, leaksChanges: false });
    const first = await round(server, `${INBOX}/messages/delta?changeType=created`, prefer(2));
    assert.equal(first.pages, 9);
    assert.equal(first.items.length, 7);
    assert.deepEqual(new Set(idsOf(first.items)), new Set(ids));
    server.mark(ANN, ids[0] ?? "", { isRead: true });
    assert.deepEqual((await round(server, first.link)).items, []);
    server.behaviour.leaksChanges = true;
    assert.deepEqual(idsOf((await round(server, first.link)).items), [ids[0]]);
    server.behaviour.filteredDeltaCap = 3;
    const since = "$filter=receivedDateTime ge 2001-01-01T00:00:00Z";
    const capped = await round(server, `${INBOX}/messages/delta?${since}`, prefer(2));
    assert.deepEqual(new Set(idsOf(capped.items)), new Set(ids.slice(2)));
    const deaths = [
      ["gone", "410 SyncStateNotFound"],
      ["syncStateNotFound", "400 syncStateNotFound"],
      ["resyncRequired", "404 resyncRequired"],
      ["notSupported", "400 ErrorInvalidUrlQuery"],
    ] as const;
    for (const [death, said] of deaths) {
      const { link } = await round(server, `${INBOX}/messages/delta`);
      server.killDeltaTokens(death, { user: ANN });
      assert.equal(await refusal(server, link), said);
    }
    server.setMailbox(ANN, "full");
    assert.equal(await refusal(server, `${INBOX}/messages/delta`), "403 ErrorQuotaExceeded");
    assert.equal(((await json(server, `${INBOX}/messages`))["value"] as object[]).length, 5);
  });

  test("a link of a chain dies once the server has made too many after it, and says where to begin again", async (t) => {
    const server = await withAnn(t);
    await server.appendMany(ANN, "inbox", numbers(6));
    server.deltaLimits.ofChain = 2;
    const first = await json(server, `${INBOX}/messages/delta`, prefer(2));
    const next = String(first["@odata.nextLink"]);
    const { items, link } = await round(server, next, prefer(2));
    assert.equal(items.length, 4);
    assert.equal((await round(server, link)).items.length, 0);
    const dead = await ask(server, next);
    assert.equal(dead.status, 410);
    const again = dead.headers.get("location") ?? "";
    assert.ok(again.startsWith(`${server.root}/v1.0/`) && again.endsWith("$deltatoken="));
    assert.equal((await round(server, again, prefer(10))).items.length, 6);
    assert.equal(await refusal(server, `${INBOX}/messages/delta?$deltatoken=nonsense`), "400 BadRequest");
    const other = link.replace(server.folderId(ANN, "inbox"), server.folderId(ANN, "archive"));
    assert.equal(await refusal(server, other), "400 BadRequest", "a token belongs to its folder");
  });

  test("five thousand and one messages are listed and walked quickly", async (t) => {
    const server = await withAnn(t);
    const raw = numbered(1);
    await server.appendMany(
      ANN,
      "inbox",
      Array.from({ length: 5001 }, () => raw),
    );
    const all = await round(server, `${INBOX}/messages/delta?$select=id`, prefer(1000));
    assert.deepEqual([all.pages, new Set(idsOf(all.items)).size], [6, 5001]);
    const since = "$filter=receivedDateTime ge 2001-01-01T00:00:00Z";
    const capped = await round(server, `${INBOX}/messages/delta?${since}&$select=id`, prefer(1000));
    assert.deepEqual([capped.pages, capped.items.length], [5, 5000]);
  });
});
