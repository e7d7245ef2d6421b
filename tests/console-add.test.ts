/** The first five minutes: from an address to its first mail, in a real browser over the real service, a real name server and a mail server with TLS. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { BrowserContextOptions, Page } from "playwright-core";
import { PASSWORD } from "./bodies.ts";
import type { Chromium } from "./servers/chromium.ts";
import { type DnsServer, startDns } from "./servers/dns.ts";
import { startGoogle } from "./servers/google.ts";
import { freePorts } from "./servers/ports.ts";
import { type Endpoint, startEndpoint } from "./servers/endpoint.ts";
import { type ImapServer, startImapServer } from "./servers/imap/server.ts";
import { message } from "./servers/mail.ts";
import { type Service, startService, TOKEN } from "./service.ts";
import { browserOnBun, type BrowserTest, findings, openConsole } from "./stories/browser.ts";

const DOMAIN = "shop.test";
/** From the page of the address to the page that waits for the first mail. */
const MOST_CLICKS = 3;

let mail: ImapServer;
let dns: DnsServer;
let endpoint: Endpoint;
let service: Service;
let chromium: Chromium | undefined;
let folder: string;

before(async () => {
  mail = await startImapServer();
  dns = await startDns();
  const place = { port: mail.imapsPort, target: "localhost", priority: 1, weight: 1 };
  dns.records.set(`_imaps._tcp.${DOMAIN}`, [{ type: "SRV", ...place }]);
  // The endpoint of somebody who has not set the secret yet.
  endpoint = await startEndpoint({ secret: null });
  folder = await mkdtemp(join(tmpdir(), "first-minutes-"));
  const ca = join(folder, "ca.pem");
  await writeFile(ca, mail.ca ?? "");
  service = await startService({ DNS_SERVERS: dns.address, NODE_EXTRA_CA_CERTS: ca });
  chromium = await browserOnBun();
});
after(async () => {
  await chromium?.remove();
  await service?.end();
  await endpoint?.stop();
  await dns?.stop();
  await mail?.stop();
  await rm(folder, { recursive: true });
});

const inBrowser = (t: BrowserTest, work: (page: Page) => Promise<void>, options: BrowserContextOptions = {}) =>
  openConsole(t, { chromium, url: service.url, token: TOKEN, work, options });

const find = async (address: string) =>
  (await service.call("GET", `/api/v1/mailboxes?address=${address}`)).body.items[0];

/** Presses buttons and counts. */
function counter(page: Page) {
  let clicks = 0;
  return {
    async press(name: string) {
      clicks += 1;
      await page.getByRole("button", { name }).click();
    },
    clicks: () => clicks,
  };
}

/** From the address to the page after the registration, with a password that is wrong first. */
async function addMailbox(page: Page, user: string) {
  const { press, clicks } = counter(page);
  const address = `${user}@${DOMAIN}`;
  await page.goto("/mailboxes/add");
  await page.getByLabel("Mail address").fill(address);
  await press("Find its servers");
  await page.getByText(`Found: IMAP localhost port ${mail.imapsPort}`).waitFor();
  await page.getByText("This is what the domain itself says").waitFor();
  assert.equal(await page.getByLabel("Server (empty").inputValue(), "localhost");
  assert.ok(
    mail.logins.every((one) => one.user !== address),
    "nobody logged in before the password was typed",
  );
  await page.getByLabel("Endpoint").fill(endpoint.url);
  await page.getByLabel("User").fill(user);
  await page.getByLabel("Password").fill(PASSWORD);
  await press("Test and go on");
  await page.getByText("every step passed").waitFor();
  assert.ok(!(await page.content()).includes(PASSWORD), "no password is in a page");
  return { press, clicks, address };
}

/** On the page with what was found for an address at Google. */
async function connect(page: Page): Promise<void> {
  const consent = page.locator("form", { has: page.getByRole("button", { name: "Connect with Google" }) });
  await consent.getByLabel("Endpoint").fill(endpoint.url);
  assert.deepEqual(await findings(page), []);
  await consent.getByRole("button", { name: "Connect with Google" }).click();
}

describe("the first five minutes", () => {
  test("lead from an address to its first mail with few clicks, and choose folders and a date", (t) =>
    inBrowser(t, async (page) => {
      await mail.addUser("ada", PASSWORD);
      await mail.createFolder("ada", "Orders");
      await mail.append("ada", "Orders", message({ subject: "before" }));
      const { press, clicks, address } = await addMailbox(page, "ada");
      assert.deepEqual(await findings(page), []);
      assert.equal(await page.getByLabel("INBOX").isChecked(), true);
      await page.getByLabel("Orders").check();
      await page.getByLabel("Received since").fill("2026-01-01");
      await press("Register");
      await page.getByText(`${address} is registered.`).waitFor();
      assert.ok(clicks() <= MOST_CLICKS, `${clicks()} clicks`);
      assert.match((await page.locator("pre").textContent()) ?? "", /^whsec_/);
      const { receive } = await find(address);
      assert.deepEqual([receive.folders, receive.since], [["INBOX", "Orders"], "2026-01-01"]);
      // The page shows the mail by itself, and keeps the secret that is shown only once.
      await page.getByRole("heading", { name: "Its first mail is here" }).waitFor();
      assert.match((await page.locator("pre").textContent()) ?? "", /^whsec_/);
      assert.equal(endpoint.received.length, 1);
      assert.deepEqual(await findings(page), []);
      await press("Post a test to the endpoint");
      await page.getByText("The endpoint accepted a test message with 200").waitFor();
      assert.equal(await page.locator("pre").count(), 0);
      assert.deepEqual(await findings(page), []);
      await page.getByRole("link", { name: "Look again" }).click();
      await page.getByRole("heading", { name: "Its first mail is here" }).waitFor();
    }));

  test("work without any script and on a small screen", (t) =>
    inBrowser(
      t,
      async (page) => {
        await mail.addUser("bob", PASSWORD);
        const { press, address } = await addMailbox(page, "bob");
        await press("Register");
        await page.getByText(`${address} is registered.`).waitFor();
        await service.until("listening", async () => (await find(address)).state.status === "listening");
        await mail.append("bob", "INBOX", message({ subject: "now" }));
        await service.until("the mail", async () => {
          await page.getByRole("link", { name: "Look again" }).click();
          return (await page.getByRole("heading", { name: "Its first mail is here" }).count()) === 1;
        });
      },
      { javaScriptEnabled: false, viewport: { width: 320, height: 640 } },
    ));

  test("explain a wrong password, which is mended on the same page", (t) =>
    inBrowser(
      t,
      async (page) => {
        await mail.addUser("eve", PASSWORD);
        await page.goto("/mailboxes/add");
        await page.getByLabel("Mail address").fill(`eve@${DOMAIN}`);
        await page.keyboard.press("Enter");
        await page.getByLabel("Endpoint").fill(endpoint.url);
        await page.getByLabel("User").fill("eve");
        await page.getByLabel("Password").fill("wrong");
        await page.keyboard.press("Enter");
        await page.getByText("A step failed, so nothing was registered").waitFor();
        await page.getByText("The server refused this user and password").waitFor();
        assert.equal(await find(`eve@${DOMAIN}`), undefined);
        assert.deepEqual(await findings(page), []);
        assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 320);
        assert.equal(await page.evaluate("document.activeElement.name"), "password");
        assert.equal(await page.getByLabel("Server (empty").inputValue(), "localhost");
        await page.keyboard.type(PASSWORD);
        await page.keyboard.press("Enter");
        await page.getByText("every step passed").waitFor();
        assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 320);
      },
      { viewport: { width: 320, height: 640 } },
    ));

  test("say where the service looked if it found nothing, and take servers that are typed", (t) =>
    inBrowser(t, async (page) => {
      await page.goto("/mailboxes/add");
      await page.getByLabel("Mail address").fill("ada@nobody.invalid");
      await page.getByRole("button", { name: "Find its servers" }).click();
      await page.getByText("No servers were found").waitFor();
      await page.getByText("Where the service looked").click();
      await page.getByText("nobody.invalid has no MX record").waitFor();
      assert.deepEqual(await findings(page), []);
      assert.equal(await page.getByLabel("Mail address").inputValue(), "ada@nobody.invalid");
      await page.getByLabel("Endpoint").fill(endpoint.url);
      await page.getByRole("button", { name: "Register without a test" }).click();
      await page.getByText("receive.host").waitFor();
    }));

  test("offer the owner's consent where an application is registered, and else say how to register one", (t) =>
    inBrowser(t, async (page) => {
      const look = async () => {
        await page.goto("/mailboxes/add");
        await page.getByLabel("Mail address").fill("ada@gmail.com");
        await page.getByRole("button", { name: "Find its servers" }).click();
        await page.getByText("Found: Google, IMAP imap.gmail.com port 993").waitFor();
      };
      await look();
      await page.getByText("bun run cli application add google.json").waitFor();
      assert.deepEqual(await findings(page), []);
      // The service has no PUBLIC_URL.
      const google = { id: "google", provider: "google", clientId: "c", clientSecret: "s" };
      assert.equal((await service.call("POST", "/api/v1/applications", google)).status, 201);
      await look();
      await connect(page);
      await page.getByText("Set PUBLIC_URL to the address").waitFor();
    }));

  test("lead through the consent at Google and back to the page that waits for the first mail", async (t) => {
    const google = await startGoogle((email, token) => mail.addToken(email, token));
    const [port = 0] = await freePorts(1);
    const url = `http://127.0.0.1:${port}`;
    const shown = await startService({ PORT: String(port), PUBLIC_URL: url });
    try {
      const { authorizeUrl, tokenUrl, clientId, clientSecret } = google;
      google.redirectUris.push(`${url}/consent/callback`);
      const imap = { host: "127.0.0.1", tls: "none", port: mail.imapPort };
      const application = { provider: "google", clientId, clientSecret, authorizeUrl, tokenUrl, imap };
      assert.equal((await shown.call("PUT", "/api/v1/applications/google", application)).status, 201);
      const address = "ada@gmail.com";
      const work = async (page: Page) => {
        for (const who of ["eve@gmail.com", address]) {
          google.signIn({ email: who });
          await page.goto("/mailboxes/add");
          await page.getByLabel("Mail address").fill(address);
          await page.getByRole("button", { name: "Find its servers" }).click();
          await connect(page);
          assert.match((await page.locator("pre").textContent()) ?? "", /^whsec_/);
          await page.getByRole("link", { name: "Go to the consent page" }).click();
          await page.getByRole("link", { name: "Continue to Google" }).click();
          if (who === address) break;
          await page.getByText("You signed in as eve@gmail.com").waitFor();
          await page.getByRole("link", { name: "Back" }).click();
          await page.getByText("The mailbox was not connected").waitFor();
        }
        await page.getByRole("link", { name: "Back to the console" }).click();
        await page.getByText(`${address} is registered.`).waitFor();
        await shown.until("listening", async () => {
          const { items } = (await shown.call("GET", "/api/v1/mailboxes?status=listening")).body;
          return items.length === 1;
        });
        await mail.append(address, "INBOX", message({ subject: "by consent" }));
        await page.getByRole("heading", { name: "Its first mail is here" }).waitFor();
      };
      await mail.addUser(address, PASSWORD);
      await openConsole(t, { chromium, url, token: TOKEN, work, others: [new URL(authorizeUrl).origin] });
    } finally {
      await shown.end();
      await google.stop();
    }
  });

  test("find a reference that everybody can read, on a small screen too", (t) =>
    inBrowser(
      t,
      async (page) => {
        await page.goto("/docs");
        await page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))");
        assert.deepEqual(await findings(page), []);
        assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 320);
        await page.getByRole("link", { name: "List its deliveries." }).first().click();
        assert.match(page.url(), /#getDeliveries$/);
      },
      { viewport: { width: 320, height: 640 } },
    ));

  test("a draft of another token is refused, and says what to do", async () => {
    const { token } = (await service.call("POST", "/api/v1/tokens", { name: "other", scopes: ["read", "manage"] }))
      .body;
    const ask = (bearer: string, path: string, form: Record<string, string>) =>
      fetch(service.url + path, {
        method: "POST",
        headers: { authorization: `Bearer ${bearer}` },
        body: new URLSearchParams(form),
      });
    await mail.addUser("kim", PASSWORD);
    const typed = { address: `kim@${DOMAIN}`, protocol: "imap", host: "127.0.0.1", port: String(mail.imapPort) };
    const tested = await ask(TOKEN, "/mailboxes/add", {
      ...typed,
      id: "kim",
      tls: "none",
      user: "kim",
      password: PASSWORD,
      url: endpoint.url,
      do: "test",
    });
    const [, draft = ""] = /name="draft" value="([^"]+)"/.exec(await tested.text()) ?? [];
    assert.notEqual(draft, "");
    const stolen = await ask(token, "/mailboxes/kim/added", { draft });
    assert.equal(stolen.status, 422);
    assert.match(await stolen.text(), /Type the address again/);
    assert.equal((await ask(TOKEN, "/mailboxes/kim/added", { draft })).status, 200);
    // Sent twice, it registers one mailbox.
    assert.match(await (await ask(TOKEN, "/mailboxes/kim/added", { draft })).text(), /exists already/);
  });
});
