/** Writes the alerts of the manifests for the Prometheus of Compose: `bun run alerts`; a test holds them equal. */
import { readFileSync, writeFileSync } from "node:fs";
import { stringify } from "yaml";
import { documentsOf } from "../deploy/manifests.ts";

const SOURCE = "k8s/components/monitoring/alerts.yaml";
const FILE = new URL("../../compose/prometheus/alerts.yml", import.meta.url);

/** compose/prometheus/alerts.yml as it is, and as it should be. */
export function composeAlerts(): { is: string; should: string } {
  const { groups } = documentsOf(SOURCE)[0].spec;
  const head = `# Written by \`bun run alerts\` from ${SOURCE}.\n`;
  return { is: readFileSync(FILE, "utf8"), should: head + stringify({ groups }, { lineWidth: 0 }) };
}

if (import.meta.main) writeFileSync(FILE, composeAlerts().should);
