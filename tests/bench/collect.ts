/**
 * Loaded before a measured program. On SIGUSR2 it collects the garbage, so that what is measured is what the program
 * holds. With BENCH_BLOCKED it also writes into that file for how many milliseconds the event loop was blocked at most
 * since the last signal.
 */
import { writeFileSync } from "node:fs";

const EVERY_MS = 5;
const path = process.env["BENCH_BLOCKED"];
let longest = 0;

process.on("SIGUSR2", () => {
  if (path !== undefined) writeFileSync(path, String(longest));
  globalThis.gc?.();
  setTimeout(() => (longest = 0), EVERY_MS);
});

if (path !== undefined) {
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    longest = Math.max(longest, now - last - EVERY_MS);
    last = now;
  }, EVERY_MS).unref();
}
