/** Writes the README's table of settings from their schema: `bun run settings` brings it up to date, a test holds it there. */
import { readFileSync, writeFileSync } from "node:fs";
import { SETTINGS } from "../../shared/settings.ts";

const README = new URL("../../README.md", import.meta.url);
const MARKED = /(<!-- settings:[^>]*-->\n)[\s\S]*?(<!-- \/settings -->)/;

/** README.md as it is, and as it should be. */
export function readme(): { is: string; should: string } {
  const is = readFileSync(README, "utf8");
  const rows = Object.entries(SETTINGS).map(
    ([name, { default: value, about }]) => `| \`${name}\` | ${value && `\`${value}\``} | ${about} |`,
  );
  const table = ["| setting | default | meaning |", "| --- | --- | --- |", ...rows].join("\n");
  return { is, should: is.replace(MARKED, (_, open: string, close: string) => `${open}\n${table}\n\n${close}`) };
}

if (import.meta.main) writeFileSync(README, readme().should);
