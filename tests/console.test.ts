/** The console: its login, and its pages in a real browser over the real service. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import axe from "axe-core";
import type { BrowserContextOptions, Page } from "playwright-core";
import { startApi } from "./api-node.ts";
import type { Chromium } from "./servers/chromium.ts";
import { provide } from "./servers/provide.ts";
import { eventually } from "./servers/waiting.ts";
import { type Scene, scene } from "./stories/scene.ts";
import { TOKEN } from "./service.ts";

const MAX_SCRIPT_BYTES = 6 * 1024;

let stage: Scene;
/** Undefined where there is none: then the tests with a browser are skipped, and one line says so. */
let chromium: Chromium | undefined;
before(async () => {
  stage = await scene();
  chromium = (await provide("chromium"))?.server;
});
after(async () => {
  await chromium?.remove();
  await stage?.end();
});

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

  test("a token that may only read sees why its buttons are disabled", async () => {
    const cookie = await logIn(await makeToken({ name: "reader", scopes: ["read"] }));
    assert.match(await (await ask("/", { cookie })).text(), /Buttons are disabled: the token reader may read/);
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

type BrowserTest = { skip(message?: string): void };

/** Opens a page that is logged in and does the work. Fails on an error in the console and on a request to another host. */
async function inBrowser(t: BrowserTest, work: (page: Page) => Promise<void>, options: BrowserContextOptions = {}) {
  if (!chromium) return t.skip("no chromium");
  const context = await chromium.browser.newContext({ baseURL: stage.service.url, ...options });
  const wrong: string[] = [];
  context.on("request", (request) => {
    if (new URL(request.url()).origin !== stage.service.url) wrong.push(`request to ${request.url()}`);
  });
  context.on("console", (message) => message.type() === "error" && wrong.push(`console: ${message.text()}`));
  context.on("weberror", (error) => wrong.push(`error: ${error.error().message}`));
  try {
    const page = await context.newPage();
    await page.goto("/login");
    await page.getByLabel("Token").fill(TOKEN);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.waitForURL("**/");
    await work(page);
    assert.deepEqual(wrong, []);
  } finally {
    await context.close();
  }
}

/** What axe finds on the page, in short. The policy of the page does not bind the debugger that runs it. */
async function findings(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run());
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${page.url()} ${id}: ${html.slice(0, 200)}`));
}

const PAGES = ["/login", "/", "/upcoming", "/diagnostics?mailbox=x"];

describe("in a browser", () => {
  test("no page has a finding of axe, light or dark, or is wider than a phone", (t) =>
    inBrowser(t, async (page) => {
      for (const path of PAGES) {
        await page.goto(path);
        for (const colorScheme of ["light", "dark"] as const) {
          await page.emulateMedia({ colorScheme });
          assert.deepEqual(await findings(page), []);
        }
        await page.setViewportSize({ width: 320, height: 640 });
        assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 320, path);
        await page.setViewportSize({ width: 1200, height: 900 });
      }
    }));

  test("a page says of when it is, and renews itself", (t) =>
    inBrowser(t, async (page) => {
      const asOf = () => page.locator("#as-of").textContent();
      const first = await asOf();
      await eventually(async () => (await asOf()) !== first, "a later time");
    }));
});
