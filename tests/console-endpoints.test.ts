/** A paused endpoint is seen where an administrator looks: on the first page, at the deliveries that wait, in the API. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import type { BrowserContextOptions, Page } from "playwright-core";
import { expect } from "./cluster-rig.ts";
import type { Chromium } from "./servers/chromium.ts";
import { message } from "./servers/mail.ts";
import { TOKEN } from "./service.ts";
import { browserOnBun, type BrowserTest, findings, openConsole } from "./stories/browser.ts";
import { type Scene, scene } from "./stories/scene.ts";

let stage: Scene;
let shop: { id: string; user: string };
let chromium: Chromium | undefined;
before(async () => {
  stage = await scene();
  shop = await stage.mailbox({ user: "shop" });
  chromium = await browserOnBun();
});
afterEach(async () => {
  stage.endpoint.answer(() => ({}));
  if ((await list()).some((one) => one.pausedAt !== undefined)) await ask("resume");
  await stage.service.until("nothing that waits", async () => (await waiting()).length === 0);
});
after(async () => {
  await chromium?.remove();
  await stage?.end();
});

const ask = (what: string, headers = {}) =>
  stage.service.call("POST", `/api/v1/endpoints/${what}`, { url: stage.endpoint.url }, headers);
const list = async (headers = {}): Promise<any[]> =>
  expect(await stage.service.call("GET", "/api/v1/endpoints", undefined, headers), 200).items;
const waiting = async (): Promise<any[]> =>
  expect(await stage.service.call("GET", "/api/v1/deliveries?state=retrying"), 200).items;
const arrives = (subject: string) => stage.mail.append(shop.user, "INBOX", message({ subject }));
const inBrowser = (t: BrowserTest, work: (page: Page) => Promise<void>, options: BrowserContextOptions = {}) =>
  openConsole(t, { chromium, url: stage.service.url, token: TOKEN, work, options });

async function waitsFor(count: number, reason: RegExp): Promise<any[]> {
  return stage.service.until(`${count} that wait: ${reason}`, async () => {
    const found = (await waiting()).filter((one) => reason.test(one.reason));
    return found.length === count && found;
  });
}

describe("a paused endpoint", () => {
  test("is a cause on the first page: who, since when, how many wait, and a button that needs no script", (t) =>
    inBrowser(
      t,
      async (page) => {
        expect(await ask("pause"), 200);
        for (const subject of ["one", "two"]) await arrives(subject);
        // Neither was refused before, so the pause is told alone.
        await waitsFor(2, /^a person has paused the deliveries to this endpoint$/);
        const row = page.getByRole("row", { name: /Paused deliveries/ });
        await stage.service.until("the count", async () => {
          await page.goto("/");
          return /2 messages wait/.test((await row.textContent()) ?? "");
        });
        assert.match((await row.textContent()) ?? "", /API_TOKENS#1 paused the deliveries to http/);
        assert.equal(await row.locator("time").count(), 1);
        await page.getByText("1 cause needs you").waitFor();
        await page.getByRole("button", { name: "Resume" }).click();
        await page.getByText("The deliveries go on. 2 messages that waited go out at once.").waitFor();
        assert.equal(await row.count(), 0);
        await stage.endpoint.waitFor(2);
      },
      { javaScriptEnabled: false },
    ));

  test("is looked at by axe on the first page, and has no button for those who may only read", (t) =>
    inBrowser(t, async (page) => {
      expect(await ask("pause"), 200);
      await page.goto("/");
      await page.getByRole("row", { name: /Paused deliveries/ }).waitFor();
      assert.deepEqual(await findings(page), []);
      const body = { name: "reader", scopes: ["read"] };
      const { token } = expect(await stage.service.call("POST", "/api/v1/tokens", body), 201);
      await page.getByRole("button", { name: "Log out" }).click();
      await page.getByLabel("Token").fill(token);
      await page.getByRole("button", { name: "Log in" }).click();
      const row = page.getByRole("row", { name: /Paused deliveries/ });
      await row.waitFor();
      assert.equal(await row.getByRole("button", { name: "Resume" }).isDisabled(), true);
    }));

  test("and the last refusal are both told of a delivery that waits: in the API, in the list and on its page", (t) =>
    inBrowser(t, async (page) => {
      stage.endpoint.answer(() => ({ status: 503 }));
      await arrives("refused first");
      const [first] = await waitsFor(1, /503/);
      expect(await ask("pause"), 200);
      // The page says so at once, and the record after the next attempt would have been due.
      await page.goto(`/deliveries/${first.id}`);
      await page.getByText(/API_TOKENS#1 paused the deliveries to/).waitFor();
      await page.getByText(/a person has paused the deliveries to this endpoint; before that: .*503/).waitFor();
      const [held] = await waitsFor(1, /^a person has paused the deliveries to this endpoint; before that: .*503/);
      assert.ok(held.attemptCount >= 1);
      await page.goto("/deliveries?state=retrying");
      await page.getByText(/before that: .*503/).waitFor();
      await page.getByText("at the resume").waitFor();
      stage.endpoint.answer(() => ({}));
      assert.equal(expect(await ask("resume"), 200).waiting, 1);
      await stage.endpoint.waitFor((request) => request.id === first.id);
    }));
});

describe("GET /api/v1/endpoints", () => {
  test("lists each endpoint with its mailboxes and what waits, and the members of a pause while there is one", async () => {
    const url = stage.endpoint.url;
    const [before_] = await list();
    assert.deepEqual([before_.url, before_.mailboxes, before_.pausedAt], [url, 1, undefined]);
    stage.endpoint.answer(() => ({ status: 503 }));
    await arrives("again");
    await waitsFor(1, /503/);
    const [retrying] = await list();
    assert.deepEqual([retrying.state, retrying.retrying, retrying.lastAttempt.status], ["retrying", 1, 503]);
    assert.ok(Date.parse(retrying.oldestWaitingAt) > 0);
    expect(await ask("pause"), 200);
    const body = { name: "shop", scopes: ["read", "manage"], mailboxPrefix: shop.id.slice(0, 8) };
    const { token } = expect(await stage.service.call("POST", "/api/v1/tokens", body), 201);
    const asShop = { authorization: `Bearer ${token}` };
    expect(await ask("pause", asShop), 200);
    const items = await list();
    assert.deepEqual(
      items.map((one) => [one.url, one.state, one.mailboxPrefix, one.pausedBy]),
      [
        [url, "paused", "", "API_TOKENS#1"],
        [url, "paused", body.mailboxPrefix, "shop"],
      ],
    );
    expect(await ask("resume", asShop), 200);
    const other = { name: "other", scopes: ["read"], mailboxPrefix: "other-" };
    const made = expect(await stage.service.call("POST", "/api/v1/tokens", other), 201);
    const seen = await list({ authorization: `Bearer ${made.token}` });
    assert.deepEqual(
      seen.map((one) => [one.url, one.mailboxes, one.retrying]),
      [[url, 0, 0]],
    );
  });
});
