/** The demo: it shows a delivery, and leaves nothing behind in a store that somebody uses. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { startService } from "./service.ts";
import { eventually } from "./servers/waiting.ts";

const main = fileURLToPath(new URL("demo/main.ts", import.meta.url));
const WAIT_MS = 60_000;

/** The demo as a process of its own in this folder. */
function startDemo(cwd: string, env: Record<string, string>) {
  const { API_TOKENS: _tokens, DATA_DIR: _folder, NODE_ENV: _mode, ...others } = process.env;
  const child = spawn(process.execPath, [main], { cwd, env: { ...others, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const closed = once(child, "close");
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  return {
    output: () => output,
    /** Resolves with the exit code. */
    ended: async () => ((await closed) as [number | null])[0],
    stop: () => child.kill("SIGTERM"),
    kill: () => child.kill("SIGKILL"),
  };
}

async function newFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), "email-listener-demo-"));
}

test("the demo delivers mail and leaves no trace, whatever store the environment names", async (t) => {
  const folder = await newFolder();
  t.after(() => rm(folder, { recursive: true }));
  // Nobody listens at port 9: a demo that used these would not start.
  const stores = { REDIS_URL: "redis://127.0.0.1:9", RABBITMQ_URL: "amqp://127.0.0.1:9", ENCRYPTION_KEYS: "" };
  for (const named of [{}, { DATA_DIR: join(folder, "named"), ...stores }]) {
    const demo = startDemo(folder, { PORT: "0", ...named });
    t.after(() => demo.kill());
    await eventually(() => /^delivered .*signature verified/m.test(demo.output()), "a delivery", WAIT_MS);
    // Somebody without a CRM is offered the demo's endpoint, which takes the mail of any mailbox.
    const [, url = ""] = /the service: +(http\S+?)\/ /.exec(demo.output()) ?? [];
    const page = await (await fetch(`${url}/mailboxes/add?by=hand`)).text();
    const [, endpoint = ""] = /name="url" value="(http[^"]+)"/.exec(page) ?? [];
    const other = { data: { deliveryId: "msg_other", subject: "from another mailbox", from: null, messageId: null } };
    assert.equal((await fetch(endpoint, { method: "POST", body: JSON.stringify(other) })).status, 204);
    const isShown = () => /^delivered .*from another mailbox.*signature not checked/m.test(demo.output());
    await eventually(isShown, "the other delivery to be shown", WAIT_MS);
    demo.stop();
    assert.equal(await demo.ended(), 0, demo.output());
    assert.deepEqual(await readdir(folder), []);
  }
});

test("the demo registers nothing with a service that has its port already", async (t) => {
  const folder = await newFolder();
  t.after(() => rm(folder, { recursive: true }));
  const service = await startService({ API_TOKENS: "" });
  t.after(() => service.end());
  const demo = startDemo(folder, { PORT: new URL(service.url).port });
  t.after(() => demo.kill());
  assert.equal(await demo.ended(), 1);
  assert.match(demo.output(), /is in use by another program/);
  // An open service takes requests without a token.
  const response = await fetch(`${service.url}/api/v1/mailboxes`);
  assert.equal(((await response.json()) as { total: number }).total, 0);
});
