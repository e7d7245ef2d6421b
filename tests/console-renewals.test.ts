/** Pages that renew themselves are made once for all who have the same one open, and for nobody else. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { sharedPages } from "../api/routes/console/fresh.ts";
import { type ApiNode, startApi } from "./api-node.ts";
import { movableClock } from "./clock.ts";
import { mailboxOf } from "./promises/samples.ts";

const ADMIN = "a-token-for-tests";

let node: ApiNode;
before(async () => {
  node = await startApi({ API_TOKENS: `${ADMIN},another-token-for-tests` });
  for (const id of ["shop-1", "help-1"]) await node.store.mailboxes.put(mailboxOf(id));
});
after(() => node.close());

async function logIn(token: string): Promise<string> {
  const body = new URLSearchParams({ token });
  const answer = await fetch(`${node.url}/login`, { method: "POST", redirect: "manual", body });
  assert.equal(answer.status, 303, await answer.text());
  return answer.headers.get("set-cookie")?.split(";")[0] ?? "";
}

async function makeToken(more: object): Promise<{ id: string; token: string }> {
  const made = { name: "one", scopes: ["read"], ...more };
  return (await node.call("POST", "/api/v1/tokens", made, { authorization: `Bearer ${ADMIN}` })).body;
}

/** The page, opened or renewed; the status alone if it is none. */
async function ask(cookie: string, path: string, how: "open" | "renew"): Promise<string> {
  const headers = { cookie, ...(how === "renew" && { "x-renewal": "1" }) };
  const answer = await fetch(node.url + path, { headers, redirect: "manual" });
  return answer.status === 200 ? answer.text() : String(answer.status);
}

const lists = (page: string) => ["shop-1", "help-1", "late-1"].filter((id) => page.includes(`/mailboxes/${id}`));

describe("a page that renews itself", () => {
  test("is made once for all who have it open, and anew for whoever opens it", async () => {
    using time = movableClock();
    const [cookie, other] = [await logIn(ADMIN), await logIn("another-token-for-tests")];
    const opened = await ask(cookie, "/mailboxes", "open");
    await node.store.mailboxes.put(mailboxOf("late-1"));
    assert.equal(await ask(cookie, "/mailboxes", "renew"), opened);
    // The same for a second window of the same login, and its own for another token and another view.
    assert.equal(await ask(await logIn(ADMIN), "/mailboxes", "renew"), opened);
    for (const [asked, path] of [
      [other, "/mailboxes"],
      [cookie, "/mailboxes?q=late"],
    ] as const)
      assert.ok(lists(await ask(asked, path, "renew")).includes("late-1"), path);
    const again = await ask(cookie, "/mailboxes", "open");
    assert.deepEqual(lists(again), ["shop-1", "help-1", "late-1"]);
    assert.equal(await ask(cookie, "/mailboxes", "renew"), again, "nothing older comes after it");
    await node.store.mailboxes.remove("late-1");
    await time.advance(60_000);
    assert.deepEqual(lists(await ask(cookie, "/mailboxes", "renew")), ["shop-1", "help-1"]);
  });

  test("is seen only by the login for which it was made, while that lasts", async () => {
    const { id, token } = await makeToken({ mailboxPrefix: "shop-" });
    const admin = await logIn(ADMIN);
    const bound = await logIn(token);
    assert.deepEqual(lists(await ask(admin, "/mailboxes", "open")), ["shop-1", "help-1"]);
    assert.deepEqual(lists(await ask(bound, "/mailboxes", "renew")), ["shop-1"]);
    assert.equal(await ask("", "/mailboxes", "renew"), "303");
    await node.call("DELETE", `/api/v1/tokens/${id}`, undefined, { authorization: `Bearer ${ADMIN}` });
    assert.equal(await ask(bound, "/mailboxes", "renew"), "303");
  });
});

describe("shared pages", () => {
  test("are found while they are made and as long as they are fresh, and longer if they took longer", async () => {
    using time = movableClock();
    const pages = sharedPages<string>();
    assert.equal(await pages.find("a"), undefined);
    const made = pages.make("a", async (keep) => {
      await time.advance(700);
      keep("page");
      return "answer";
    });
    const found = pages.find("a");
    assert.deepEqual(await Promise.all([made, found]), ["answer", "page"]);
    await time.advance(6_000);
    assert.equal(await pages.find("a"), "page", "ten times of what it took");
    await time.advance(1_500);
    assert.equal(await pages.find("a"), undefined);
  });

  test("that failed, or were not kept, are nobody else's", async () => {
    const pages = sharedPages<string>();
    const failing = pages.make("a", async () => {
      throw new Error("the store is away");
    });
    const found = pages.find("a");
    await assert.rejects(failing, /away/);
    assert.equal(await found, undefined);
    assert.equal(await pages.make("b", async () => "not live"), "not live");
    assert.equal(await pages.find("b"), undefined);
  });

  test("are not more than fifty", async () => {
    const pages = sharedPages<string>();
    for (let n = 0; n < 60; n++) await pages.make(String(n), async (keep) => keep(`page ${n}`));
    const kept = await Promise.all(Array.from({ length: 60 }, (_, n) => pages.find(String(n))));
    assert.equal(kept.filter(Boolean).length, 50);
    assert.equal(kept.at(-1), "page 59");
  });
});
