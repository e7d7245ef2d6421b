/** Draws docs/console-*.webp: pages of the console in a browser, with invented data (`bun run pictures`). */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright-core";
import manifest from "../../package.json" with { type: "json" };
import { startApi } from "../api-node.ts";
import { provide } from "../servers/provide.ts";
import { generateEncryptionKey } from "../../shared/store/encryption-keys.ts";
import { TOKEN as SERVICE_TOKEN } from "../service.ts";
import { scene, status } from "../stories/scene.ts";
import { invent, NODE, SHOWN } from "./pictures/data.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const SIZE = { width: 1240, height: 760 };
const TOKEN = "a-token-for-pictures";
const QUALITY = 0.6;
const MAX_BYTES = 60 * 1024;

/** The picture as WebP, which the browser itself can write. */
async function compress(shown: Page, png: Buffer): Promise<Buffer> {
  const page = await shown.context().newPage();
  try {
    const source = JSON.stringify(`data:image/png;base64,${png.toString("base64")}`);
    const url: string = await page.evaluate(`(async () => {
      const image = await createImageBitmap(await (await fetch(${source})).blob());
      const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
      canvas.getContext("2d").drawImage(image, 0, 0);
      return canvas.toDataURL("image/webp", ${QUALITY});
    })()`);
    return Buffer.from(url.slice(url.indexOf(",") + 1), "base64");
  } finally {
    await page.close();
  }
}

/** Opens the console of a service, logged in. */
async function logIn(browser: Browser, url: string, token: string): Promise<Page> {
  const context = await browser.newContext({ baseURL: url, viewport: SIZE, reducedMotion: "reduce" });
  const page = await context.newPage();
  await page.goto("/login");
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL("**/");
  return page;
}

async function save(page: Page, name: string): Promise<void> {
  const picture = await compress(page, await page.screenshot());
  if (picture.length > MAX_BYTES) throw new Error(`The picture ${name} has ${picture.length} bytes`);
  writeFileSync(join(root, `docs/console-${name}.webp`), picture);
}

/** A day of a small company: nobody could wait for it, so it is put into the store of a node. */
async function drawDay(browser: Browser): Promise<void> {
  const node = await startApi({ API_TOKENS: TOKEN }, { name: NODE, version: manifest.version });
  try {
    await invent(node, TOKEN);
    const page = await logIn(browser, node.url, TOKEN);
    await page.goto("/");
    await save(page, "now");
    await page.goto(`/mailboxes/${SHOWN}`);
    await save(page, "mailbox");
  } finally {
    await node.close();
  }
}

/** The checks of a service with real servers beside it, and one mailbox with a wrong password. */
async function drawChecks(browser: Browser): Promise<void> {
  const keys = `k20261130:${generateEncryptionKey().reveal()}`;
  const stage = await scene({ NODE_ENV: "production", ENCRYPTION_KEYS: keys, NODE_NAME: NODE });
  try {
    for (const user of ["help-desk", "orders", "sales"]) await stage.mailbox({ user });
    const { id } = await stage.mailbox({ user: "invoices", password: "wrong", wait: false });
    await status(stage.service, id, "needs_attention");
    const page = await logIn(browser, stage.service.url, SERVICE_TOKEN);
    await page.goto("/diagnostics");
    await page.getByRole("button", { name: "Run all", exact: true }).click();
    await page.waitForLoadState();
    await page.evaluate(`document.getElementById("check-sqlite").scrollIntoView()`);
    await save(page, "diagnostics");
  } finally {
    await stage.end();
  }
}

async function draw(): Promise<void> {
  const chromium = (await provide("chromium"))?.server;
  if (!chromium) throw new Error("The pictures need Chromium");
  try {
    await drawDay(chromium.browser);
    await drawChecks(chromium.browser);
  } finally {
    await chromium.remove();
  }
}

if (import.meta.main) await draw();
