/** Draws docs/demo.svg: runs the demo, waits for three deliveries, and draws what it printed as a terminal (`bun run picture`). */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const DELIVERIES = 3;
const TIMEOUT_MS = 90_000;
const LINE_PX = 20;
const CHARACTER_PX = 7.25;
const MARGIN_PX = 20;

/** The lines that the demo prints up to its third delivery, without the service's own log (JSON). */
async function runDemo(): Promise<string[]> {
  const env = { ...process.env, PORT: process.env["PORT"] ?? "10000" };
  const demo = spawn(process.execPath, ["tests/demo/main.ts"], {
    cwd: root,
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const timer = setTimeout(() => demo.kill("SIGKILL"), TIMEOUT_MS);
  const lines: string[] = [];
  try {
    for await (const line of createInterface({ input: demo.stdout })) {
      const isBlankAtStart = line === "" && lines.length === 0;
      if (!isBlankAtStart && !line.startsWith("{")) lines.push(line);
      if (lines.filter((one) => one.startsWith("delivered")).length === DELIVERIES) break;
    }
  } finally {
    clearTimeout(timer);
    demo.kill("SIGTERM");
    if (demo.exitCode === null) await new Promise((resolve) => demo.once("exit", resolve));
  }
  if (lines.length <= DELIVERIES) throw new Error(`The demo printed only: ${lines.join("\n")}`);
  return lines;
}

const escaped = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function draw(lines: string[]): string {
  const all = ["$ npx -y bun@1.4.5 run demo", "", ...lines];
  const width = Math.ceil(Math.max(...all.map((line) => line.length)) * CHARACTER_PX) + 2 * MARGIN_PX;
  const height = all.length * LINE_PX + 2 * MARGIN_PX;
  const texts = all.map((line, n) => {
    const color = line.startsWith("$") ? "#8b949e" : line.startsWith("delivered") ? "#7ee787" : "#e6edf3";
    const y = MARGIN_PX + (n + 1) * LINE_PX - 6;
    return `  <text x="${MARGIN_PX}" y="${y}" fill="${color}" xml:space="preserve">${escaped(line)}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" role="img" aria-label="What the demo prints" font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="12">`,
    `  <rect width="100%" height="100%" rx="8" fill="#0d1117"/>`,
    ...texts,
    "</svg>",
    "",
  ].join("\n");
}

if (import.meta.main) writeFileSync(join(root, "docs/demo.svg"), draw(await runDemo()));
