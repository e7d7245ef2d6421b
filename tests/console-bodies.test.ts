/** What the console shows of messages: nothing, their headers, or their bodies in a frame that loads and runs nothing. */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import { after, before, describe, test } from "node:test";
import type { Chromium } from "./servers/chromium.ts";
import { message } from "./servers/mail.ts";
import { listenOn } from "./servers/ports.ts";
import { browserOnBun, type BrowserTest, noBrowser } from "./stories/browser.ts";
import { type Scene, scene } from "./stories/scene.ts";
import { TOKEN } from "./service.ts";

const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

let chromium: Chromium | undefined;
/** Another host, which must hear nothing: not even a connection. */
let spy: Server;
let heard: string[];
let spyUrl: string;
before(async () => {
  chromium = await browserOnBun();
  heard = [];
  spy = createServer((request, response) => {
    heard.push(`request ${request.url}`);
    response.end();
  });
  spy.on("connection", () => heard.push("connection"));
  spyUrl = `http://localhost:${await listenOn(spy, 0)}`;
});
after(async () => {
  await chromium?.remove();
  spy?.closeAllConnections();
  spy?.close();
});

/** Everything that a body can try. */
const hostile = () => `<html><head>
  <base href="${spyUrl}/base/"><meta http-equiv="refresh" content="0;url=${spyUrl}/refresh">
  <link rel="preconnect" href="${spyUrl}"><LINK rel=dns-prefetch href="${spyUrl}"><link rel="stylesheet" href="${spyUrl}/style">
  <link/rel="prefetch"/href="${spyUrl}/prefetch"><style>@import url("${spyUrl}/import"); body { background: url(${spyUrl}/background) }</style>
  <script>parent.document.title = "broken"; fetch("${spyUrl}/script")</script><script src="${spyUrl}/script.js"></script></head>
  <body onload="location='${spyUrl}/onload'"><p id="hello">Hello from the body</p>
  <img src="${spyUrl}/image" onerror="top.document.title='broken'"><img src="cid:dot@example.net" alt="dot"><picture><source srcset="${spyUrl}/set"></picture>
  <iframe src="${spyUrl}/frame"></iframe><object data="${spyUrl}/object"></object><embed src="${spyUrl}/embed"><video poster="${spyUrl}/poster" src="${spyUrl}/video" autoplay></video>
  <svg onload="top.document.title='broken'"><image href="${spyUrl}/svg"/></svg><form action="${spyUrl}/form"><button id="send" autofocus>Send</button></form>
  <a id="away" href="${spyUrl}/away" ping="${spyUrl}/ping">away</a><a id="top" target="_top" href="${spyUrl}/top">top</a><a id="new" target="_blank" href="${spyUrl}/new">new</a>
  </body></html>`;

/** A service with this setting, whose endpoint refuses a hostile message. */
async function withParked(setting: string | undefined, work: (stage: Scene, id: string) => Promise<void>) {
  const stage = await scene(setting === undefined ? {} : { CONSOLE_BODIES: setting });
  try {
    stage.endpoint.answer(() => ({ status: 413 }));
    const { user } = await stage.mailbox();
    const dot = {
      filename: "dot.png",
      type: "image/png",
      content: Buffer.from(PIXEL, "base64"),
      cid: "dot@example.net",
    };
    const head = { subject: "order 4711", from: "eve@example.net", headers: { "X-Odd": "<b>odd</b>" } };
    await stage.mail.append(user, "INBOX", message({ ...head, html: hostile(), attachments: [dot] }));
    const id = await stage.service.until("the parked message", async () => {
      const { items } = (await stage.service.call("GET", "/api/v1/deliveries?state=parked")).body;
      return items[0]?.id;
    });
    await work(stage, id);
  } finally {
    await stage.end();
  }
}

/** A page as somebody gets it who is logged in. */
async function asLoggedIn({ service }: Scene) {
  const form = new URLSearchParams({ token: TOKEN });
  const login = await fetch(`${service.url}/login`, { method: "POST", redirect: "manual", body: form });
  const cookie = login.headers.get("set-cookie")?.split(";")[0] ?? "";
  return (path: string) => fetch(service.url + path, { headers: { cookie }, redirect: "manual" });
}

describe("CONSOLE_BODIES", () => {
  test("on: a hostile body is shown, and runs nothing, loads nothing and leads nowhere", (t: BrowserTest) =>
    withParked("on", async (stage, id) => {
      const get = await asLoggedIn(stage);
      const body = await get(`/deliveries/${id}/body`);
      const policy = body.headers.get("content-security-policy") ?? "";
      for (const rule of ["default-src 'none'", "style-src 'unsafe-inline'", "img-src data:", "sandbox"])
        assert.ok(policy.split("; ").includes(rule), rule);
      assert.equal(body.headers.get("referrer-policy"), "no-referrer");
      assert.equal((await get(`/deliveries/${id}`)).headers.get("referrer-policy"), "same-origin");
      if (!chromium) return t.skip(noBrowser());
      const { page, close, answered } = await openBody(chromium, stage, id);
      try {
        const frame = page.frameLocator("iframe.message");
        await frame.locator("#hello").waitFor();
        assert.equal(await page.locator("iframe.message").getAttribute("sandbox"), "");
        assert.equal(
          await frame
            .getByAltText("dot")
            .evaluate((image) => (image as unknown as { naturalWidth: number }).naturalWidth),
          1,
        );
        for (const target of ["#send", "#away", "#top", "#new"]) {
          // The browser shows an error in the place of a page to which a frame must not go.
          await page.reload();
          await frame.locator(target).click();
        }
        await page.waitForTimeout(1_000);
        assert.equal(await page.title(), "Delivery - Email Listener");
        assert.equal(new URL(page.url()).pathname, `/deliveries/${id}`);
        assert.equal(page.context().pages().length, 1);
        assert.deepEqual([heard, answered.filter((url) => url.startsWith(spyUrl))], [[], []]);
      } finally {
        await close();
      }
    }));

  test("headers, the default: the header lines are shown and the message can be downloaded, but has no body", () =>
    withParked(undefined, async (stage, id) => {
      const get = await asLoggedIn(stage);
      const page = await (await get(`/deliveries/${id}`)).text();
      assert.match(page, /order 4711/);
      assert.match(page, /Header lines[^]*x-odd[^]*&lt;b&gt;odd/i);
      assert.ok(!page.includes("<iframe"));
      assert.equal((await get(`/deliveries/${id}/body`)).status, 403);
      assert.equal((await get(`/deliveries/${id}/raw`)).status, 200);
    }));

  test("off: neither headers nor download nor search show anything of the message", () =>
    withParked("off", async (stage, id) => {
      const get = await asLoggedIn(stage);
      const page = await (await get(`/deliveries/${id}`)).text();
      assert.ok(!/order 4711|eve@|<iframe|download/.test(page));
      assert.match(page, /CONSOLE_BODIES=off/);
      for (const what of ["body", "raw"]) assert.equal((await get(`/deliveries/${id}/${what}`)).status, 403, what);
      const found = await (await get("/search?q=order")).text();
      assert.ok(!/eve@|4711/.test(found));
      assert.match(found, /were not looked up/);
      const { mailbox } = (await stage.service.call("GET", `/api/v1/deliveries/${id}`)).body;
      for (const path of ["/deliveries", `/mailboxes/${mailbox}`]) {
        const list = await (await get(path)).text();
        assert.ok(list.includes(id.slice(0, 16)) && !/eve@|order 4711|Subject, sender or/.test(list), path);
      }
      // Nobody learns by a filter either which words a subject has.
      for (const text of ["order", "nothing of it"])
        assert.ok((await (await get(`/deliveries?text=${text}`)).text()).includes(id.slice(0, 16)), text);
    }));
});

async function openBody({ browser }: Chromium, { service }: Scene, id: string) {
  const context = await browser.newContext({ baseURL: service.url });
  // A request that the policy stops is begun, and never leaves.
  const answered: string[] = [];
  context.on("requestfinished", (request) => answered.push(request.url()));
  const page = await context.newPage();
  await page.goto("/login");
  await page.getByLabel("Token").fill(TOKEN);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL("**/");
  await page.goto(`/deliveries/${id}`);
  return { page, answered, close: () => context.close() };
}
