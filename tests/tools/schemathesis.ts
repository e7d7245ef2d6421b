/**
 * `bun run schemathesis [seconds]`: tries requests that the OpenAPI document allows and forbids against the running
 * service, with Schemathesis (https://schemathesis.io). It must be installed: `pip install schemathesis`, or named in SCHEMATHESIS.
 */
import { spawnSync } from "node:child_process";
import process from "node:process";
import { startService, TOKEN } from "../service.ts";

const PROGRAM = process.env["SCHEMATHESIS"] ?? "schemathesis";
const SECONDS = process.argv[2] ?? "60";
/** A stream that does not end, and what waits for other servers. */
const SLOW_PATHS =
  /^\/api\/v1\/(events|diagnostics\/checks|alarms\/test|mailboxes\/validate|mailboxes\/\{id\}\/(folders|resync))$/;
/** CRMs call it by every method. */
const CRM_PATHS = /^\/api\/listeners\/status$/;
/** Rules between two fields, and ids and page tokens that must exist, are no part of a schema. */
const UNSAYABLE = "positive_data_acceptance";

const service = await startService({ EGRESS_PRIVATE: "deny", PUBLIC_URL: "https://mail.example.com" });
try {
  const options = {
    header: `Authorization: Bearer ${TOKEN}`,
    phases: "examples,coverage,fuzzing",
    "max-time": SECONDS,
    "request-timeout": "20",
    workers: "2",
    "exclude-path-regex": `${SLOW_PATHS.source}|${CRM_PATHS.source}`,
    "exclude-checks": UNSAYABLE,
  };
  const named = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  const args = ["run", `${service.url}/openapi.json`, "--no-color", ...named];
  // It writes what it learned into the folder that it runs in.
  const { status, error } = spawnSync(PROGRAM, args, { cwd: service.dataDir, stdio: "inherit" });
  if (error) console.error(`${PROGRAM} cannot be run: ${error.message}. Install it: pip install schemathesis`);
  process.exitCode = status ?? 1;
} finally {
  await service.end();
}
