/** The console: its login, and its pages in a real browser over the real service. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import type { BrowserContextOptions, Page } from "playwright-core";
import { initialState } from "../shared/store/store.ts";
import { startApi } from "./api-node.ts";
import { exampleBody, PASSWORD } from "./bodies.ts";
import type { Chromium } from "./servers/chromium.ts";
import { provide } from "./servers/provide.ts";
import { eventually } from "./servers/waiting.ts";
import { type BrowserTest, findings, noBrowser, openConsole } from "./stories/browser.ts";
import { type Scene, scene } from "./stories/scene.ts";
import { TOKEN } from "./service.ts";

const MAX_SCRIPT_BYTES = 6 * 1024;

const MAX_PAGE_BYTES = 60 * 1024;
const HOSTILE = `<img src=x onerror="document.title='broken'"> \u202Eorder 4711`;
const SHOP = "shop";
const LOCKED = "locked";

let stage: Scene;
let shop: { id: string; user: string };
/** Undefined where there is none: then the tests with a browser are skipped, and one line says so. */
let chromium: Chromium | undefined;
before(async () => {
  stage = await scene();
  stage.endpoint.answer(() => ({ status: 413 }));
  shop = await stage.mailbox({ user: SHOP });
  await stage.mailbox({ user: LOCKED, password: "wrong", wait: false });
  await stage.mail.append(SHOP, "INBOX", letter());
  await fact("mail.parked");
  await stage.service.until("a refused login", async () => (await find(LOCKED)).state.failedLogins > 0);
  chromium = (await provide("chromium"))?.server;
});
after(async () => {
  await chromium?.remove();
  await stage?.end();
});

const fact = (kind: string) => stage.service.until(kind, () => stage.service.facts.some((one) => one.kind === kind));
const find = async (user: string) =>
  (await stage.service.call("GET", `/api/v1/mailboxes?address=${user}@example.com`)).body.items[0];

function letter(): string {
  const subject = `=?utf-8?B?${Buffer.from(HOSTILE).toString("base64")}?=`;
  const from = `=?utf-8?B?${Buffer.from("\u202E<b>Eve</b>").toString("base64")}?= <eve@example.net>`;
  return `Subject: ${subject}\r\nFrom: ${from}\r\nTo: shop@example.com\r\nMessage-ID: <4711@example.net>\r\n\r\nHello\r\n`;
}

/** One request as a browser sends it, without following an answer. */
function ask(path: string, options: { cookie?: string; form?: Record<string, string>; headers?: object } = {}) {
  const { cookie, form, headers } = options;
  return fetch(stage.service.url + path, {
    method: form ? "POST" : "GET",
    redirect: "manual",
    headers: { ...(cookie && { cookie }), ...headers },
    ...(form && { body: new URLSearchParams(form) }),
  });
}

/** The cookie of a login by this token. */
async function logIn(token: string): Promise<string> {
  const answer = await ask("/login", { form: { token } });
  assert.equal(answer.status, 303, await answer.text());
  return answer.headers.get("set-cookie")?.split(";")[0] ?? "";
}

async function makeToken(body: object): Promise<string> {
  return (await stage.service.call("POST", "/api/v1/tokens", body)).body.token;
}

describe("the login", () => {
  test("a page without a login leads to the form, and back to the page after it", async () => {
    const start = await ask("/");
    assert.deepEqual([start.status, start.headers.get("location")], [303, "/login"]);
    const answer = await ask("/login", { form: { token: TOKEN, next: "/?x=1" } });
    assert.deepEqual([answer.status, answer.headers.get("location")], [303, "/?x=1"]);
    for (const next of ["https://evil.example.com/", "//evil.example.com", "/\\evil.example.com", "x"]) {
      const safe = await ask("/login", { form: { token: TOKEN, next } });
      assert.deepEqual([safe.status, safe.headers.get("location")], [303, "/"], next);
    }
  });

  test("the cookie is out of reach of scripts and other sites, and holds no readable token", async () => {
    const plain = await ask("/login", { form: { token: TOKEN } });
    const cookie = plain.headers.get("set-cookie") ?? "";
    for (const part of ["HttpOnly", "SameSite=Strict", "Path=/"]) assert.ok(cookie.includes(part), part);
    assert.ok(!cookie.includes("Secure") && !cookie.includes(TOKEN));
    const secure = await ask("/login", { form: { token: TOKEN }, headers: { "x-forwarded-proto": "https" } });
    assert.match(secure.headers.get("set-cookie") ?? "", /; Secure/);
    const page = await ask("/", { cookie: cookie.split(";")[0] ?? "" });
    assert.equal(page.status, 200);
    assert.ok(!(await page.text()).includes(TOKEN));
  });

  test("a wrong token is refused in words, counts as a guess, and nobody gets in by another cookie", async () => {
    const answer = await ask("/login", { form: { token: "wrong" } });
    assert.equal(answer.status, 401);
    assert.match(await answer.text(), /no token of this service/);
    await stage.service.until("the guess", () => stage.service.facts.some(({ kind }) => kind === "access.refused"));
    assert.equal((await ask("/", { cookie: "email_listener_session=enc:2:x:y:z" })).status, 303);
  });

  test("a form of another site does nothing, and a logout ends the cookie", async () => {
    const cookie = await logIn(TOKEN);
    for (const headers of [
      { origin: "https://evil.example.com" },
      { "sec-fetch-site": "cross-site" },
      { origin: "null" },
    ])
      assert.equal((await ask("/logout", { cookie, form: {}, headers })).status, 403);
    const out = await ask("/logout", { cookie, form: {} });
    assert.deepEqual([out.status, out.headers.get("location")], [303, "/login"]);
    assert.match(out.headers.get("set-cookie") ?? "", /email_listener_session=; .*Max-Age=0/);
  });

  test("a token that was revoked ends its login at once, and one that may not read gets none", async () => {
    const { body } = await stage.service.call("POST", "/api/v1/tokens", { name: "for a while", scopes: ["read"] });
    const cookie = await logIn(body.token);
    assert.equal((await ask("/", { cookie })).status, 200);
    await stage.service.call("DELETE", `/api/v1/tokens/${body.id}`);
    assert.equal((await ask("/", { cookie })).status, 303);
    const sender = await makeToken({ name: "sender", scopes: ["send"] });
    const refused = await ask("/login", { form: { token: sender } });
    assert.equal(refused.status, 403);
    assert.match(await refused.text(), /needs a token with the scope read/);
  });

  test("a token that may only read sees why its buttons are disabled, and changes nothing past them", async () => {
    const cookie = await logIn(await makeToken({ name: "reader", scopes: ["read"] }));
    const text = await (await ask(`/mailboxes/${shop.id}`, { cookie })).text();
    assert.match(text, /Buttons are disabled: the token reader may read/);
    const enabled = [...text.slice(text.indexOf("<main")).matchAll(/<button class[^>]*>([^<]*)/g)].map(
      ([, name]) => name,
    );
    assert.deepEqual(enabled, ["Look on the server"]);
    for (const change of ["pause", "delete", "test"])
      assert.equal((await ask(`/mailboxes/${shop.id}/${change}`, { cookie, form: {} })).status, 403, change);
    assert.equal((await find(SHOP)).state.status, "listening");
  });

  test("a token with a prefix sees nothing of other mailboxes", async () => {
    const cookie = await logIn(await makeToken({ name: "other", scopes: ["read", "manage"], mailboxPrefix: "other-" }));
    for (const path of ["/", "/mailboxes", "/deliveries?state=parked", "/search?q=4711"]) {
      const page = await ask(path, { cookie });
      assert.equal(page.status, 200, path);
      assert.ok(!/shop@|eve@/.test(await page.text()), path);
    }
    for (const path of [`/mailboxes/${shop.id}`, `/mailboxes/${shop.id}/delete`])
      assert.equal((await ask(path, { cookie })).status, 404, path);
    assert.equal((await ask(`/mailboxes/${shop.id}/pause`, { cookie, form: {} })).status, 404);
  });
});

describe("the frame", () => {
  test("has a policy that lets in nothing else, and files that are kept for a year", async () => {
    const page = await ask("/", { cookie: await logIn(TOKEN) });
    const policy = page.headers.get("content-security-policy") ?? "";
    for (const rule of ["default-src 'none'", "script-src 'self'", "require-trusted-types-for 'script'"])
      assert.ok(policy.includes(rule), rule);
    assert.equal(page.headers.get("cache-control"), "no-store");
    const files = [...(await page.text()).matchAll(/(?:src|href)="([^"]*\/assets\/[^"]+)"/g)].map(
      ([, path = ""]) => path,
    );
    assert.equal(files.length, 3);
    for (const path of files) {
      const file = await ask(path);
      assert.match(file.headers.get("cache-control") ?? "", /max-age=31536000, immutable/);
      if (path.endsWith(".js")) assert.ok((await file.arrayBuffer()).byteLength <= MAX_SCRIPT_BYTES);
    }
    assert.equal((await ask("/assets/console-0123456789abcdef.css")).status, 404);
  });

  test("an open service says so, and every link is under BASE_PATH", async () => {
    const node = await startApi({ BASE_PATH: "/mail" });
    try {
      const { text, status } = await node.call("GET", "/");
      assert.equal(status, 200);
      assert.match(text, /This service is open/);
      assert.match(text, /No mailbox yet/);
      const links = [...text.matchAll(/(?:href|src|action)="(\/[^"]*)"/g)].map(([, path = ""]) => path);
      assert.deepEqual(
        links.filter((path) => !path.startsWith("/mail/")),
        [],
      );
    } finally {
      await node.close();
    }
  });
});

const minutesAgo = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString();

describe("a list", () => {
  test("has 50 mailboxes a page, is small, and never calls a mailbox well that nobody has verified", async () => {
    const node = await startApi();
    try {
      for (let n = 0; n < 60; n++)
        await node.call("PUT", `/api/v1/mailboxes/m${n}`, exampleBody({ address: `m${n}@x.de` }));
      const listening = { ...initialState({ paused: false }), status: "listening", node: "here" } as const;
      await node.store.mailboxes.saveStates([
        { id: "m0", revision: 1, state: { ...listening, lastVerifiedAt: minutesAgo(60) } },
        { id: "m1", revision: 1, state: { ...listening, lastVerifiedAt: minutesAgo(0) } },
      ]);
      const { text } = await node.call("GET", "/mailboxes");
      assert.equal(text.match(/href="\/mailboxes\/m\d+"/g)?.length, 50);
      assert.ok(gzipSync(text).length <= MAX_PAGE_BYTES);
      const [, next = ""] = /href="([^"]+)">Next page/.exec(text) ?? [];
      const second = await node.call("GET", next.replaceAll("&amp;", "&"));
      assert.equal(second.text.match(/href="\/mailboxes\/m\d+"/g)?.length, 10);
      const unverified = (await node.call("GET", "/mailboxes?state=unverified")).text;
      assert.match(unverified, /\/mailboxes\/m0"[^]*not verified/);
      assert.ok(!unverified.includes('/mailboxes/m1"'));
      const now = (await node.call("GET", "/")).text;
      assert.match(now, /1 of 60 mailboxes are listened to; 1 cause needs you/);
      for (const filter of ["protocol=pop3", "host=elsewhere", "q=nobody", "state=paused"])
        assert.match((await node.call("GET", `/mailboxes?${filter}`)).text, /No mailbox matches/);
      assert.match((await node.call("GET", "/mailboxes?host=imap.example.com&q=m59")).text, /\/mailboxes\/m59"/);
    } finally {
      await node.close();
    }
  });
});

type Work = (page: Page) => Promise<void>;

/** Opens the console on both runtimes and does the work. For what depends on how the server answers. */
const inEachBrowser = (t: BrowserTest, work: Work, options: BrowserContextOptions = {}) =>
  openConsole(t, { chromium, url: stage.service.url, token: TOKEN, work, options });

/** As `inEachBrowser`, on Bun alone: the pages are the same on both. */
const inBrowser = (t: BrowserTest, work: Work, options: BrowserContextOptions = {}) =>
  "bun" in process.versions ? inEachBrowser(t, work, options) : t.skip(noBrowser());

/** Goes to the element with this name by the Tab key alone, and presses Enter. */
async function press(page: Page, name: string): Promise<void> {
  for (let n = 0; n < 60; n++) {
    const focused = await page.evaluate("document.activeElement?.textContent?.trim() ?? ''");
    if (focused === name) return page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
  }
  throw new Error(`The Tab key does not lead to "${name}" on ${page.url()}`);
}

async function pagesToLookAt(): Promise<string[]> {
  const { body } = await stage.service.call("GET", "/api/v1/deliveries?state=parked");
  return [
    "/",
    "/mailboxes",
    "/mailboxes?state=paused",
    `/mailboxes/${shop.id}`,
    `/mailboxes/${(await find(LOCKED)).id}`,
    `/mailboxes/${shop.id}/delete`,
    `/mailboxes/${shop.id}/edit`,
    `/mailboxes/${shop.id}/record`,
    "/bulk/new?action=pause",
    "/bulk/new?action=resync",
    "/bulk",
    "/mailboxes/add",
    "/mailboxes/add?by=hand",
    `/mailboxes/${shop.id}/added`,
    "/endpoints",
    `/endpoints/one?url=${encodeURIComponent(stage.endpoint.url)}`,
    "/outgoing",
    "/deliveries?state=parked",
    `/deliveries/${body.items[0].id}`,
    "/bulk/new?action=replay&state=parked",
    "/search?q=order",
    "/upcoming",
    "/alarms",
    `/diagnostics?mailbox=${shop.id}`,
    `/search?q=${SHOP}@example.com`,
  ];
}

describe("in a browser", () => {
  test("no page has a finding of axe, light, dark or in forced colours, or is wider than a phone", (t) =>
    inBrowser(t, async (page) => {
      for (const path of await pagesToLookAt()) {
        await page.goto(path);
        assert.deepEqual(await findings(page), []);
        for (const media of [{ colorScheme: "dark" }, { colorScheme: "light", forcedColors: "active" }] as const) {
          await page.emulateMedia(media);
          assert.deepEqual(await findings(page, ["color-contrast"]), []);
        }
        await page.emulateMedia({ forcedColors: "none" });
        await page.setViewportSize({ width: 320, height: 640 });
        assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 320, path);
        await page.setViewportSize({ width: 1200, height: 900 });
      }
    }));

  test("a page says of when it is, and renews itself", (t) =>
    inEachBrowser(t, async (page) => {
      const asOf = () => page.locator("#as-of").textContent();
      const first = await asOf();
      await eventually(async () => (await asOf()) !== first, "a later time");
    }));

  test("the words of strangers are shown and do nothing", (t) =>
    inBrowser(t, async (page) => {
      await page.goto("/search?q=order+4711");
      await page.getByRole("link", { name: "onerror" }).click();
      const shown = HOSTILE.replace("\u202E", "\uFFFD");
      assert.ok((await page.locator("main").textContent())?.includes(shown));
      assert.equal(await page.locator("main img, main b").count(), 0);
      assert.equal(await page.title(), "Delivery - Email Listener");
    }));

  test("a search finds a message by its subject, sender and Message-ID, and says what it cannot know", (t) =>
    inBrowser(t, async (page) => {
      for (const q of ["order 4711", "eve@example.net", "<4711@example.net>", "4711@example.net"]) {
        await page.getByRole("searchbox").fill(q);
        await page.keyboard.press("Enter");
        await page.getByRole("heading", { name: "Messages" }).waitFor();
      }
      await page.getByRole("searchbox").fill("nobody@example.net");
      await page.keyboard.press("Enter");
      await page.getByText("Nothing was found for nobody@example.net").waitFor();
      await page.getByRole("searchbox").fill(`${LOCKED}@example.com`);
      await page.keyboard.press("Enter");
      await page.getByText("Not listened to from").waitFor();
    }));

  test("a look on the server says where a message lies and whether it was handed over", (t) =>
    inBrowser(t, async (page) => {
      for (const [id, answer] of [
        ["4711@example.net", "It was handed over"],
        ["<none@example.net>", "The server has no message with this Message-ID"],
      ] as const) {
        await page.goto(`/mailboxes/${shop.id}`);
        await page.getByLabel("Message-ID of a mail").fill(id);
        await page.getByRole("button", { name: "Look on the server" }).click();
        await page.getByText(answer).waitFor();
      }
    }));

  test("a wrong password is one row of the first page, with its cause and its fix, and a test names the step", (t) =>
    inBrowser(t, async (page) => {
      await page.getByText(`${LOCKED}@example.com`).waitFor();
      await page.getByText("Check user name and password").waitFor();
      await page.getByRole("link", { name: "Open the mailbox" }).click();
      await page.getByRole("button", { name: "Test the connection" }).click();
      await page.getByText("A step failed").waitFor();
      assert.match((await page.locator("tr", { hasText: "login" }).textContent()) ?? "", /failed/);
    }));

  test("all mailboxes of a filter are paused and resumed without any script", (t) =>
    inBrowser(
      t,
      async (page) => {
        // The browser refuses a reload in the moment in which it goes to another page.
        const reloaded = async (text: string) => {
          await page.waitForURL("**/bulk/bulk_*");
          await eventually(async () => {
            await page.reload();
            const shown = (await page.locator("main").textContent()) ?? "";
            return shown.includes(text) && shown.includes("it has ended");
          }, text);
        };
        await page.goto(`/mailboxes?q=${SHOP}`);
        await page.getByRole("link", { name: "Pause all that match" }).click();
        await page.getByRole("button", { name: "Pause 1 mailbox" }).click();
        await reloaded("1 of 1 done, 0 failed.");
        assert.equal((await find(SHOP)).state.status, "paused");
        await page.goto(`/mailboxes?q=${SHOP}`);
        await page.getByRole("link", { name: "Resume all that match" }).click();
        await page.getByRole("button", { name: "Resume 1 mailbox" }).click();
        await reloaded("1 of 1 done, 0 failed.");
        await stage.service.until("listening", async () => (await find(SHOP)).state.status === "listening");
        await page.goto("/bulk");
        assert.equal(await page.locator("tbody tr").count(), 2);
      },
      { javaScriptEnabled: false },
    ));

  test("a bulk action shows its progress while it runs, and a button stops it", (t) =>
    inEachBrowser(t, async (page) => {
      for (let n = 0; n < 150; n++)
        await stage.service.call(
          "PUT",
          `/api/v1/mailboxes/many-${n}`,
          exampleBody({ address: `many-${n}@example.com` }),
        );
      await page.goto("/mailboxes?q=many-");
      await page.getByRole("link", { name: "Test all that match" }).click();
      await page.getByRole("button", { name: "Test 150 mailboxes" }).click();
      await page.waitForURL("**/bulk/bulk_*");
      assert.equal(await page.getByRole("progressbar").getAttribute("aria-label"), "Progress");
      await page.getByRole("button", { name: "Stop" }).click();
      await page.getByText("It ended in the middle.").waitFor();
      for (let n = 0; n < 150; n++) await stage.service.call("DELETE", `/api/v1/mailboxes/many-${n}`);
    }));

  test("a mailbox is edited by one form, which asks for its secret again when its server changes", (t) =>
    inBrowser(
      t,
      async (page) => {
        await stage.mail.addUser("moving", PASSWORD);
        const { id } = await stage.mailbox({ user: "moving", known: true });
        const read = async () => (await stage.service.call("GET", `/api/v1/mailboxes/${id}`)).body;
        await page.goto(`/mailboxes/${id}`);
        await page.getByRole("link", { name: "Edit…" }).click();
        await page.getByLabel("Name").fill("<b>Moving</b>");
        await page.getByLabel("Server").fill("localhost");
        await page.getByLabel("Port").fill("99999");
        await page.getByRole("button", { name: "Save" }).click();
        assert.match((await page.locator("[id='receive.port-error']").textContent()) ?? "", /It must be/);
        await page.getByLabel("Port").fill(String(stage.mail.imapPort));
        await page.getByRole("button", { name: "Save" }).click();
        const needed = page.locator("[id='receive.auth.password-error']");
        assert.match((await needed.textContent()) ?? "", /must be given again/);
        const password = page.getByLabel("New password for receiving");
        assert.equal(await password.getAttribute("aria-invalid"), "true");
        assert.deepEqual(
          [await password.inputValue(), await page.getByLabel("Server").inputValue()],
          ["", "localhost"],
        );
        assert.equal((await read()).receive.host, "127.0.0.1");
        await password.fill(PASSWORD);
        await page.getByLabel("Folders").fill("INBOX\n");
        await page.getByLabel("Endpoint").fill(`${stage.endpoint.url}moved`);
        await page.getByLabel("Paused").check();
        await page.getByRole("button", { name: "Save" }).click();
        await page.getByText("The changes are saved.").waitFor();
        const saved = await read();
        assert.deepEqual(
          [saved.name, saved.receive.host, saved.receive.folders, saved.deliver.url, saved.state.status],
          ["<b>Moving</b>", "localhost", ["INBOX"], `${stage.endpoint.url}moved`, "paused"],
        );
        const [entry] = (await stage.service.call("GET", `/api/v1/audit?mailbox=${id}`)).body.items;
        assert.equal(entry.route, "/api/v1/mailboxes/{id}/pause");
        await page.goto(`/mailboxes/${id}/edit`);
        await stage.service.call("PATCH", `/api/v1/mailboxes/${id}`, { name: "theirs" });
        await page.getByLabel("Name").fill("mine");
        await page.getByRole("button", { name: "Save" }).click();
        await page.getByText("Nothing was changed.").waitFor();
        assert.equal((await read()).name, "theirs");
        await page.goto(`/mailboxes/${id}/edit`);
        await page.getByLabel("Paused").uncheck();
        await page.getByRole("button", { name: "Save" }).click();
        await stage.service.until("listening", async () => (await read()).state.status === "listening");
      },
      { javaScriptEnabled: false },
    ));

  test("the record of a mailbox is begun, read, downloaded and stopped without any script", (t) =>
    inBrowser(
      t,
      async (page) => {
        await page.goto(`/mailboxes/${shop.id}`);
        await page.getByRole("link", { name: "Protocol record" }).click();
        await page.getByText("Nothing has been recorded.").waitFor();
        await page.getByRole("button", { name: "Begin" }).click();
        await page.getByText("It is on.").waitFor();
        await eventually(async () => {
          await stage.service.call("POST", `/api/v1/mailboxes/${shop.id}/test`);
          await page.reload();
          return (await page.locator("pre").count()) > 0;
        }, "lines");
        assert.match((await page.locator("pre").textContent()) ?? "", /imap-[0-9a-f]{4} [CS]: /);
        const download = page.waitForEvent("download");
        await page.getByRole("link", { name: "Download" }).click();
        assert.equal((await download).suggestedFilename(), `record-${shop.id}.txt`);
        await page.getByRole("button", { name: "Stop" }).click();
        await page.getByText("It is off.").waitFor();
      },
      { javaScriptEnabled: false },
    ));

  test("an endpoint is paused, resumed and tested, and gets a new secret, without any script", (t) =>
    inBrowser(
      t,
      async (page) => {
        await page.goto("/endpoints");
        await page.getByRole("link", { name: stage.endpoint.url, exact: true }).click();
        assert.match((await page.getByRole("button", { name: "Resume" }).textContent()) ?? "", /they are not paused/);
        await page.getByRole("button", { name: "Pause deliveries" }).click();
        await page.getByText("API_TOKENS#1 paused the deliveries").waitFor();
        await page.goto("/endpoints");
        await page.getByText("paused by a person").first().waitFor();
        await page.getByRole("link", { name: stage.endpoint.url, exact: true }).click();
        await page.getByRole("button", { name: "Post a test message" }).click();
        await page.getByText("The endpoint did not accept it.").waitFor();
        await page.getByText("413").first().waitFor();
        await page.getByRole("link", { name: "Back to the endpoint" }).click();
        await page.getByRole("button", { name: "Resume deliveries" }).click();
        await page.getByText("The deliveries go on.").waitFor();
        await page.getByRole("button", { name: "Make a new secret" }).click();
        await page.getByText("mailboxes have the new secret").waitFor();
        assert.match((await page.locator("pre").textContent()) ?? "", /^whsec_/);
      },
      { javaScriptEnabled: false },
    ));

  test("the keyboard alone leads from the login to a parked message and its replay", (t) =>
    inEachBrowser(t, async (page) => {
      stage.endpoint.answer(() => ({}));
      await press(page, "Show and replay");
      await page.waitForURL("**/deliveries?**");
      await press(page, "Replay all that match…");
      await page.waitForURL("**/bulk/new?**");
      await press(page, "Replay 1 message");
      await page.getByText("1 of 1 done, 0 failed.").waitFor();
      await fact("mail.delivered");
    }));

  test("a page whose node is killed says that it has no news, and catches up by itself", (t) =>
    inEachBrowser(t, async (page) => {
      const { port } = new URL(stage.service.url);
      await page.clock.install();
      await page.goto("/mailboxes");
      await stage.service.kill();
      await page.clock.fastForward(45_000);
      await page.getByText(/No news for \d+ s/).waitFor();
      await stage.service.start({ PORT: port });
      await eventually(async () => {
        await page.clock.fastForward(6_000);
        return (await page.locator("#news").textContent()) === "";
      }, "news again");
    }));
});
