/** Runs clients of Graph that nobody here wrote against the fake Graph server, with the mail that their checks expect. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { numbered } from "../../mail.ts";
import { run } from "../../program.ts";
import { pythonWith } from "../../python.ts";
import { startGraphServer } from "../server.ts";

/** The packages of each client, with the script that works through it. */
const CLIENTS = {
  O365: { packages: ["O365==2.1.10"], script: "o365-check.py" },
  "msgraph-sdk": { packages: ["msgraph-sdk==1.65.0"], script: "msgraph-check.py" },
};

export type Client = keyof typeof CLIENTS;

const USER = "ann@example.com";
const MESSAGES = 15;

/** Provides the client's Python; see `pythonWith`. */
export function pythonOf(client: Client): Promise<string> {
  return pythonWith(CLIENTS[client].packages);
}

/** Resolves with what the client said once it is content; rejects with its complaint. */
export async function check(client: Client, python: string): Promise<string> {
  const server = await startGraphServer();
  try {
    await server.addUser(USER);
    await server.createFolder(USER, "Büro");
    const attachments = [{ filename: "a.bin", content: Buffer.from([0, 128, 255]) }];
    for (let number = 1; number <= MESSAGES; number++) {
      const raw = numbered(number, number === MESSAGES ? { attachments } : {});
      await server.append(USER, "inbox", raw, { receivedAt: new Date(Date.UTC(2026, 0, number)) });
    }
    const script = fileURLToPath(new URL(CLIENTS[client].script, import.meta.url));
    const { root, tokenRoot, tenant, clientId, clientSecret } = server;
    const args = [script, root, tokenRoot, tenant, clientId, clientSecret, USER];
    const said = await run(python, args, { timeoutMs: 300_000, env: { PYTHONWARNINGS: "ignore" } });
    assert.ok(server.sent.length === 2 && server.requests.length > 20, "the client has worked");
    return said.trim();
  } finally {
    await server.stop();
  }
}
