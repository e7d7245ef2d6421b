/**
 * `bun run schemathesis [seconds]`: tries requests that the OpenAPI document allows and forbids against the running
 * service, with Schemathesis (https://schemathesis.io). SCHEMATHESIS names the program; without it it is installed from PyPI.
 */
import { join } from "node:path";
import process from "node:process";
import { run } from "../servers/program.ts";
import { pythonWith } from "../servers/python.ts";
import { startService, TOKEN } from "../service.ts";

/** How long it may take to start, and to report after the last request. */
const ENDING_MS = 60_000;
const PACKAGE = "schemathesis==4.32.5";
/** A stream that does not end, and what waits for other servers. */
const SLOW_PATHS =
  /^\/api\/v1\/(events|endpoints\/test|diagnostics\/checks|alarms\/test|mailboxes\/(validate|discover)|mailboxes\/\{id\}\/(folders|resync|test))$/;
/** Its body is lines of JSON, which Schemathesis cannot write. */
const LINES_PATH = /^\/api\/v1\/mailboxes:import$/;
/** CRMs call it by every method. */
const CRM_PATHS = /^\/api\/listeners\/status$/;
/** Rules between two fields, and ids and page tokens that must exist, are no part of a schema. */
const UNSAYABLE = "positive_data_acceptance";

/** The path of the program. Throws when it is not here and cannot be installed. */
export async function findSchemathesis(): Promise<string> {
  return process.env["SCHEMATHESIS"] ?? join(await pythonWith([PACKAGE]), "..", "schemathesis");
}

/**
 * Runs these phases for at most so many seconds. Resolves with what it printed; rejects with the end of it when an answer is
 * not as the document says. The same `seed` makes the same requests.
 */
export async function runSchemathesis(
  program: string,
  { phases, seconds, seed }: { phases: string; seconds: number; seed?: number },
): Promise<string> {
  const service = await startService({ EGRESS_PRIVATE: "deny", PUBLIC_URL: "https://mail.example.com" });
  try {
    const options = {
      header: `Authorization: Bearer ${TOKEN}`,
      phases,
      "max-time": String(seconds),
      "request-timeout": "20",
      // With two threads Python 3.11 may fail to read its own sources (AST constructor recursion depth mismatch).
      workers: "1",
      "exclude-path-regex": [SLOW_PATHS, LINES_PATH, CRM_PATHS].map(({ source }) => source).join("|"),
      "exclude-checks": UNSAYABLE,
      warnings: "off",
      ...(seed !== undefined && { seed: String(seed) }),
    };
    const named = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
    const args = ["run", `${service.url}/openapi.json`, "--no-color", ...named];
    // It writes what it learned into the folder that it runs in.
    return await run(program, args, { cwd: service.dataDir, timeoutMs: seconds * 1000 + ENDING_MS });
  } finally {
    await service.end();
  }
}

if (import.meta.main) {
  const seconds = Number(process.argv[2] ?? 60);
  try {
    const program = await findSchemathesis();
    console.log(await runSchemathesis(program, { phases: "examples,coverage,fuzzing", seconds }));
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  }
}
