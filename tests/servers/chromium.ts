/** A real browser for tests of pages: Debian's Chromium, steered by playwright-core. */
import type { Browser } from "playwright-core";
import { findProgram, isThere } from "./install.ts";
import type { Source } from "./sources.ts";

/** `remove` ends the browser with all its pages. */
export type Chromium = { browser: Browser; remove(): Promise<void> };

const NAMES = ["chromium", "chromium-browser", "google-chrome"];

/** TEST_CHROMIUM, else the first of the usual names on the path. */
async function chromiumProgram(): Promise<string | undefined> {
  const named = process.env["TEST_CHROMIUM"];
  if (named) return (await isThere(named)) ? named : undefined;
  const found = await Promise.all(NAMES.map(findProgram));
  return found.find((path) => path !== undefined);
}

export const chromiumSource: Source<Chromium, Record<string, never>> = {
  environment: async () => undefined,
  // A browser in a container does not reach a service on the loopback address.
  docker: undefined,
  found: async () => (await chromiumProgram()) !== undefined,
  start: async () => {
    const executablePath = (await chromiumProgram()) ?? "";
    // Every test imports this room, and few need the library.
    const { chromium } = await import("playwright-core");
    const browser = await chromium.launch({
      executablePath,
      args: ["--no-sandbox", "--disable-gpu"],
      timeout: 120_000,
    });
    return { browser, remove: () => browser.close() };
  },
  install: (packages) => packages(["chromium"]),
  missing: "install chromium, or name it in TEST_CHROMIUM",
};
