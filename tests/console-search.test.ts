/** What was delivered is found by its subject, its sender and its Message-ID, and what is selected is replayed. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { BrowserContextOptions, Page } from "playwright-core";
import type { Chromium } from "./servers/chromium.ts";
import { message } from "./servers/mail.ts";
import { TOKEN } from "./service.ts";
import { browserOnBun, type BrowserTest, findings, openConsole } from "./stories/browser.ts";
import { type Scene, scene, subjects } from "./stories/scene.ts";

const COMMAND = fileURLToPath(new URL("../api/cli/cli.ts", import.meta.url));
const RUNTIME = "deno" in process.versions ? ["run", "-A", "--no-check"] : [];
const SUBJECTS = ["Счёт 4711", "Angebot für März", "Hello 3", "Hello 4", "Hello 5"];

let stage: Scene;
let chromium: Chromium | undefined;
before(async () => {
  stage = await scene();
  await stage.mailbox({ user: "shop" });
  for (const [n, subject] of SUBJECTS.entries())
    await stage.mail.append(
      "shop",
      "INBOX",
      message({ subject, from: `Zoë <p${n}@example.net>`, messageId: `<mail-${n}@example.net>` }),
    );
  await delivered(SUBJECTS.length);
  chromium = await browserOnBun();
});
after(async () => {
  await chromium?.remove();
  await stage?.end();
});

const inBrowser = (t: BrowserTest, work: (page: Page) => Promise<void>, options: BrowserContextOptions = {}) =>
  openConsole(t, { chromium, url: stage.service.url, token: TOKEN, work, options });

const list = async (query: Record<string, string>, service = stage.service) =>
  (await service.call("GET", `/api/v1/deliveries?${new URLSearchParams(query)}`)).body;
const subjectsOf = (body: any) => body.items.map(({ message: found }: any) => found.subject).toSorted();

function delivered(count: number): Promise<unknown> {
  return stage.service.until("the deliveries", async () => (await list({ state: "delivered" })).total === count);
}

describe("a delivered message", () => {
  test("is found through the API by a part of its subject or sender in any case, and by its whole Message-ID", async () => {
    for (const text of ["счёт", "4711", "P0@EXAMPLE.NET", "<mail-0@example.net>", "mail-0@example.net"])
      assert.deepEqual(subjectsOf(await list({ text })), ["Счёт 4711"], text);
    assert.deepEqual(subjectsOf(await list({ text: "ZOË" })), SUBJECTS.toSorted());
    assert.deepEqual(subjectsOf(await list({ text: "zoë", state: "parked" })), []);
    assert.deepEqual((await list({ text: "mail-0" })).items, []);
    const [{ id, message: known }] = (await list({ text: "märz" })).items;
    assert.deepEqual(known, { subject: SUBJECTS[1], from: "Zoë <p1@example.net>", messageId: "mail-1@example.net" });
    assert.deepEqual((await stage.service.call("GET", `/api/v1/deliveries/${id}`)).body.message, known);
    assert.equal((await stage.service.call("GET", "/api/v1/deliveries?text=%20")).status, 422);
  });

  test("is found on the command line", async () => {
    const env = { ...process.env, EMAIL_LISTENER_URL: stage.service.url, EMAIL_LISTENER_TOKEN: TOKEN };
    const args = [...RUNTIME, COMMAND, "deliveries", "ls", "--text", "märz"];
    const { stdout } = await promisify(execFile)(process.execPath, args, { env });
    assert.match(stdout, /FROM +SUBJECT/);
    assert.match(stdout, /p1@example\.net> +Angebot für März/);
    assert.equal(stdout.trim().split("\n").length, 2);
  });

  test("is found on the page of the search and in the list, and its page shows what is known of it", (t) =>
    inBrowser(t, async (page) => {
      for (const q of ["СЧЁТ", "p0@example.net", "<mail-0@example.net>"]) {
        await page.getByRole("searchbox").fill(q);
        await page.keyboard.press("Enter");
        await page.waitForURL("**/search?**");
        await page.getByRole("link", { name: "Счёт 4711" }).waitFor();
      }
      await page.getByRole("link", { name: "Счёт 4711" }).click();
      await page.getByText("<mail-0@example.net>").waitFor();
      await page.getByRole("link", { name: "shop@example.com" }).waitFor();
      await page.getByRole("link", { name: stage.endpoint.url }).waitFor();
      await page.getByText("The endpoint accepted it.").waitFor();
      await page.goto("/deliveries");
      await page.getByLabel("Subject, sender or Message-ID").fill("hello");
      await page.getByRole("button", { name: "Filter" }).click();
      await page.getByText("3 shown").waitFor();
      assert.equal(await page.getByRole("link", { name: /Hello/ }).count(), 3);
      assert.deepEqual(await findings(page), []);
      for (const [mailbox, count] of [
        ["shop@example.com", 3],
        ["nobody@example.com", 0],
      ] as const) {
        await page.getByLabel("Mailbox").fill(mailbox);
        await page.getByRole("button", { name: "Filter" }).click();
        await page.waitForURL(`**/deliveries?**${encodeURIComponent(mailbox)}**`);
        assert.equal(await page.getByRole("link", { name: /Hello/ }).count(), count, mailbox);
      }
      await page.getByRole("searchbox").fill("no such words");
      await page.keyboard.press("Enter");
      await page.getByText("Nothing was found for no such words").waitFor();
      await page.getByText("If a message never came, search for the address that it was sent to.").waitFor();
    }));
});

describe("selected deliveries", () => {
  test("are replayed without any script, and no others", (t) =>
    inBrowser(
      t,
      async (page) => {
        stage.endpoint.clear();
        await page.goto("/deliveries?text=hello");
        await page.getByRole("button", { name: "Replay the selected" }).click();
        await page.getByText("No delivery was selected").waitFor();
        for (const name of ["Select Hello 3", "Select Hello 5"]) await page.getByRole("checkbox", { name }).check();
        await page.getByRole("button", { name: "Replay the selected" }).click();
        await page.getByText("2 deliveries are attempted again now.").waitFor();
        assert.equal(new URL(page.url()).searchParams.get("text"), "hello");
        await stage.service.until("both", () => subjects(stage.endpoint).length === 2);
        assert.deepEqual(subjects(stage.endpoint), ["Hello 3", "Hello 5"]);
        await page.getByRole("link", { name: "Select all on this page" }).click();
        await page.waitForURL("**select=all**");
        assert.equal(await page.getByRole("checkbox", { checked: true }).count(), 3);
      },
      { javaScriptEnabled: false },
    ));

  test("stay selected when the page renews itself", (t) =>
    inBrowser(t, async (page) => {
      await page.clock.install();
      await page.goto("/deliveries");
      await page.getByRole("checkbox", { name: "Select Hello 4" }).check();
      await page.getByRole("checkbox", { name: "Select Hello 4" }).blur();
      await stage.mail.append("shop", "INBOX", message({ subject: "Hello 6" }));
      await delivered(SUBJECTS.length + 1);
      await stage.service.until("the new row", async () => {
        await page.clock.fastForward(6_000);
        return (await page.getByRole("link", { name: "Hello 6" }).count()) === 1;
      });
      assert.equal(await page.getByRole("checkbox", { name: "Select Hello 4" }).isChecked(), true);
      assert.equal(await page.getByRole("checkbox", { checked: true }).count(), 1);
    }));

  test("are not offered to those who may only read, and one that is gone does not stop the others", async () => {
    const body = { name: "reader", scopes: ["read"] };
    const { token } = (await stage.service.call("POST", "/api/v1/tokens", body)).body;
    const reader = await asLoggedIn(token);
    assert.ok(!(await (await reader("/deliveries")).text()).includes('type="checkbox"'));
    const [{ id }] = (await list({ text: "Hello 3" })).items;
    assert.equal((await reader("/deliveries/replay", [["id", id]])).status, 403);
    const admin = await asLoggedIn(TOKEN);
    const some = await admin("/deliveries/replay", [
      ["id", "gone"],
      ["id", id],
    ]);
    assert.match(some.headers.get("location") ?? "", /done=replay&n=1&failed=1/);
    assert.equal((await admin("/deliveries/replay", [["id", "gone"]])).status, 404);
  });
});

async function asLoggedIn(token: string) {
  const form = new URLSearchParams({ token });
  const login = await fetch(`${stage.service.url}/login`, { method: "POST", redirect: "manual", body: form });
  const cookie = login.headers.get("set-cookie")?.split(";")[0] ?? "";
  return (path: string, fields?: [string, string][]) =>
    fetch(stage.service.url + path, {
      headers: { cookie },
      redirect: "manual",
      ...(fields && { method: "POST", body: new URLSearchParams(fields) }),
    });
}

test("with KEEP_SUBJECTS=off the store has nothing of a message that was delivered, waits or is parked", async () => {
  const other = await scene({ KEEP_SUBJECTS: "off", RETRY_HOURS: "0.001" });
  try {
    const { id, user } = await other.mailbox();
    await other.mail.append(user, "INBOX", message({ subject: "accepted" }));
    await other.service.until("it", async () => (await list({ state: "delivered" }, other.service)).total === 1);
    other.endpoint.answer(() => ({ status: 500 }));
    await other.mail.append(user, "INBOX", message({ subject: "refused" }));
    await other.service.until("it", async () => (await list({ state: "parked" }, other.service)).total === 1);
    const { items } = await list({ mailbox: id }, other.service);
    assert.deepEqual(
      items.map((one: object) => "message" in one),
      [false, false],
    );
    for (const text of ["accepted", "refused"]) assert.deepEqual((await list({ text }, other.service)).items, []);
  } finally {
    await other.end();
  }
});
