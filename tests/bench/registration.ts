/**
 * How fast many mailboxes are registered, while the node opens connections to those that it has: one by one, imported, and by a CRM
 * that registers all of its own again. The CPU seconds are the node's alone.
 */
import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { importAll, type Lean, leanIds, registerOneByOne, row, withLean } from "./density.ts";
import { cpuSeconds } from "./measured.ts";
import type { Row, Setup } from "./report.ts";
import { inParallel } from "./rivals.ts";

const GOAL = 500;
const CALLED_AT_ONCE = 20;
/** What an administrator gets. */
const DEFAULTS = { CONNECTIONS_PER_HOST_PER_SECOND: "" };
const IMAP = "844f0837-eaa0-4f40-b965-71f5db9eae6e";

/** Registers `--registered` mailboxes in each way, each with a node that has none yet. */
export async function registration({ sizes, runtime }: Setup): Promise<Row[]> {
  const count = sizes.registered;
  const ids = leanIds(0, count);
  const single = await withLean({ runtime, env: DEFAULTS }, (on) =>
    measured(on, `of ${count} registered by POST`, count, () => registerOneByOne(on, ids)),
  );
  const imported = await withLean({ runtime, env: DEFAULTS }, async (on) => [
    ...(await measured(on, `of ${count} imported`, count, () => importAll(on, ids))),
    ...(await measured(on, `of ${count} imported again`, count, () => importAll(on, ids))),
  ]);
  return [...single, ...imported, ...(await withLean({ runtime, env: DEFAULTS }, (on) => byCrm(on, ids)))];
}

async function measured({ pid }: Lean, what: string, count: number, work: () => Promise<void>): Promise<Row[]> {
  const [cpu, began] = [await cpuSeconds(pid()), performance.now()];
  await work();
  const seconds = (performance.now() - began) / 1000;
  return [
    row(`per second, ${what}`, count / seconds, GOAL, ""),
    row(`CPU per 1,000 ${what}`, ((await cpuSeconds(pid())) - cpu) / (count / 1000), undefined, "s"),
  ];
}

/** A CRM knows no certificates, so the node trusts the bench's authority as the machine's own. */
async function byCrm(on: Lean, ids: string[]): Promise<Row[]> {
  const folder = await mkdtemp(join(tmpdir(), "bench-"));
  const ca = join(folder, "ca.pem");
  try {
    await writeFile(ca, on.lean.ca);
    await on.service.stop();
    await on.service.start({ NODE_EXTRA_CA_CERTS: ca });
    const all = ids.map((user) => credentialsOf(on.lean.port, user));
    const register = () =>
      inParallel(all, CALLED_AT_ONCE, async (credentials) => {
        const answer = await on.service.call("POST", "/api/listeners/recreate", [credentials]);
        if (answer.status !== 200) throw new Error(`Not registered: ${JSON.stringify(answer.body)}`);
      });
    return [
      ...(await measured(on, `of ${ids.length} registered by a CRM`, ids.length, register)),
      ...(await measured(on, `of ${ids.length} registered again by a CRM`, ids.length, register)),
    ];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function credentialsOf(port: number, user: string): Record<string, unknown> {
  return {
    Id: randomUUID(),
    SenderEmailAddress: `${user}@example.com`,
    UserName: user,
    Password: "only for the bench",
    UseOAuth: false,
    ServiceUrl: "localhost",
    IsAutodiscover: false,
    ServerTypeId: IMAP,
    Port: port,
    UseSsl: true,
    FolderIds: ["INBOX"],
    BpmEndpoint: "http://127.0.0.1:9/",
  };
}
