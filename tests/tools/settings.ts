/** Writes docs/settings.md from the settings' schema: `bun run settings` brings it up to date, a test holds it there. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { RENAMED_SETTINGS, SECRET_SETTINGS, SETTINGS } from "../../shared/settings.ts";

const FILE = new URL("../../docs/settings.md", import.meta.url);

/** docs/settings.md as it is, and as it should be before the formatter. */
export function settingsPage(): { is: string; should: string } {
  return { is: readFileSync(FILE, "utf8"), should: render() };
}

function render(): string {
  const settings = Object.entries(SETTINGS).map(([name, { default: value, about }]) => [
    code(name),
    value && code(value),
    about,
  ]);
  const renamed = Object.entries(RENAMED_SETTINGS).map(([old, { name, until }]) => [
    code(old),
    code(name),
    until ?? "always",
  ]);
  return `# Settings

Every setting is an environment variable. An empty variable counts as not set. A wrong value stops the start with
a message that names the variable. A variable that looks like a misspelt setting is named in a warning at the start.
\`bun run settings\` writes this page.

${table(["setting", "default", "meaning"], settings)}

## Secrets in files

${SECRET_SETTINGS.map(code).join(", ")} may come from files, as Docker and Kubernetes provide secrets: set \`<setting>_FILE\` to the
path. The file must hold only the value. A file that belongs to the user of the service must be unreadable to others (\`chmod 600\`).

## Renamed settings

The old name still works, with a warning at the start. If both are set, the new name counts.

${table(["old name", "new name", "old name works until"], renamed)}
`;
}

const code = (text: string) => `\`${text}\``;

function table(head: string[], rows: string[][]): string {
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

if (import.meta.main) {
  mkdirSync(new URL(".", FILE), { recursive: true });
  writeFileSync(FILE, render());
}
