/** The console in a real browser: logged in, watched for errors and for requests to other hosts, and looked at by axe. */
import assert from "node:assert/strict";
import axe from "axe-core";
import type { BrowserContextOptions, Page } from "playwright-core";
import type { Chromium } from "../servers/chromium.ts";
import { provide } from "../servers/provide.ts";

export type BrowserTest = { skip(message?: string): void };
type Visit = {
  /** Undefined where there is none, or where Bun looks at the page: then the test is skipped. */
  chromium: Chromium | undefined;
  url: string;
  token: string;
  work: (page: Page) => Promise<void>;
  options?: BrowserContextOptions;
  /** Other servers that the browser may ask. */
  others?: string[];
};

/**
 * A browser on Bun, for what is in the pages, which are the same on every runtime. `console.test.ts` opens some from each runtime too:
 * those that depend on how the server answers. Undefined on another runtime, and where there is no browser.
 */
export async function browserOnBun(): Promise<Chromium | undefined> {
  return "bun" in process.versions ? (await provide("chromium"))?.server : undefined;
}

/** Why a page is not looked at. */
export const noBrowser = (): string => ("bun" in process.versions ? "no chromium here" : "looked at on Bun");

/** The browser says that a node that was killed refuses connections, and that a form was refused. Tests look at the pages. */
const EXPECTED = /ERR_CONNECTION_REFUSED|status of 4(00|22)/;

/** Opens a page that is logged in and does the work. Fails on an error in the console and on a request to another host. */
export async function openConsole(t: BrowserTest, { chromium, url, token, work, options, others = [] }: Visit) {
  if (!chromium) return t.skip(noBrowser());
  const context = await chromium.browser.newContext({ baseURL: url, ...options });
  context.setDefaultTimeout(120_000);
  const wrong: string[] = [];
  context.on("request", (request) => {
    if (![url, ...others].includes(new URL(request.url()).origin)) wrong.push(`request to ${request.url()}`);
  });
  context.on("console", (message) => {
    if (message.type() === "error" && !EXPECTED.test(message.text())) wrong.push(`console: ${message.text()}`);
  });
  context.on("weberror", (error) => wrong.push(`error: ${error.error().message}`));
  try {
    const page = await context.newPage();
    await page.goto("/login");
    await page.getByLabel("Token").fill(token);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.waitForURL("**/");
    await work(page);
    assert.deepEqual(wrong, []);
  } finally {
    await context.close();
  }
}

/**
 * What axe finds on the page, in short; with `rules` by these alone. The policy of the page does not bind the debugger that
 * runs it.
 */
export async function findings(page: Page, rules?: string[]): Promise<string[]> {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(
    (only) => (globalThis as unknown as { axe: typeof axe }).axe.run(only ? { runOnly: only } : {}),
    rules,
  );
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${page.url()} ${id}: ${html.slice(0, 200)}`));
}
