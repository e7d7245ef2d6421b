/** The story of a node that was alone and becomes one of several: all it remembered comes along. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { move } from "../api/cli/move.ts";
import { readConfig } from "../shared/config.ts";
import { clusterRig, expect, type Rig } from "./cluster-rig.ts";
import { rabbitMqOrSkip, redisOrSkip, type TestContext } from "./servers/provide.ts";
import { redisCommand } from "./servers/redis.ts";
import type { Service } from "./service.ts";
import { status, subjectOf } from "./stories/scene.ts";

const configOf = (rig: Rig, dataDir: string, more: Record<string, string> = {}) =>
  readConfig({ ...rig.env, DATA_DIR: dataDir, ...more });

/** Deliveries in a state, as the node tells. */
async function count(node: Service, state: string): Promise<number> {
  return expect(await node.call("GET", `/api/v1/deliveries?state=${state}&limit=1`), 200).total;
}

/** How many mailboxes have a record of their day and a latency in the file of a node that runs. */
function countMeasured({ dataDir }: Service): number {
  const db = new DatabaseSync(join(dataDir, "email-listener.db"), { readOnly: true });
  db.exec("pragma busy_timeout = 10000");
  try {
    const row = db.prepare("select count(*) as n from measured where states <> '' and latency is not null").get();
    return Number(row?.["n"]);
  } finally {
    db.close();
  }
}

for (const where of ["Redis and RabbitMQ", "Redis alone"])
  test(`after the move to ${where} nothing is lost and nothing comes twice, also when the server renumbers the folder`, (t) =>
    moveStory(t, where === "Redis alone"));

async function moveStory(t: TestContext, isRedisAlone: boolean): Promise<void> {
  const redis = await redisOrSkip(t);
  const rabbit = isRedisAlone ? undefined : await rabbitMqOrSkip(t);
  if (!redis || (!rabbit && !isRedisAlone)) return;
  const rig = await clusterRig({ redisUrl: redis.url, ...(rabbit && { rabbitUrl: rabbit.url }) });
  t.after(() => rig.end());
  const alone = await rig.api("alone", { REDIS_URL: "", RABBITMQ_URL: "", RETRY_HOURS: "0.001" });
  await rig.register(alone, 2);
  for (const id of ["box-0", "box-1"]) await status(alone, id, "listening");
  for (let n = 0; n < 20; n++) await rig.send(`box-${n % 2}`);
  await rig.arrived();
  await alone.until("both mailboxes measured", () => countMeasured(alone) === 2);

  const refused = new Set([await rig.send("box-0")]);
  rig.endpoint.answer((request) => (refused.has(subjectOf(request)) ? { status: 500 } : {}));
  await alone.until("a parked one", async () => (await count(alone, "parked")) === 1);
  rig.endpoint.answer(() => ({}));
  await rig.send("box-1");
  await alone.until("all but the parked one", () => rig.missing().length === 1);
  rig.endpoint.answer(() => ({ hang: true }));
  for (let n = 0; n < 3; n++) await rig.send("box-1");
  await alone.until("messages under way", () => rig.endpoint.open().now === 3);
  rig.endpoint.answer(() => ({ status: 503 }));
  for (let n = 0; n < 4; n++) await rig.send("box-0");
  await alone.until("retrying ones", async () => (await count(alone, "retrying")) === 4);
  const tokens = await makeTokens(alone);
  const application = { provider: "microsoft", tenant: "contoso.com", clientId: "c", clientSecret: "s" };
  for (const id of ["kept", "gone"]) expect(await alone.call("PUT", `/api/v1/applications/${id}`, application), 201);
  expect(await alone.call("POST", "/api/v1/mailboxes/box-1/record"), 200);
  const paused = { url: "https://another.example.com/mail" };
  expect(await alone.call("POST", "/api/v1/endpoints/pause", paused), 200);
  const { total: auditEntries } = expect(await alone.call("GET", "/api/v1/audit"), 200);
  await assert.rejects(move(configOf(rig, alone.dataDir)), /is in use by process/);
  await alone.kill();

  const moved = await move(configOf(rig, alone.dataDir));
  assert.deepEqual(
    { ...moved, unfinishedMessages: 0, tasks: 0 },
    {
      mailboxes: 2,
      movedBefore: 0,
      leftAlone: 0,
      cursors: 2,
      unfinishedMessages: 0,
      deliveries: 26,
      sendings: 0,
      fingerprints: 26,
      tasks: 0,
      tokens: 2,
      applications: 2,
      auditEntries,
      endpointPauses: 1,
      protocolRecords: 1,
      bulkActions: 0,
      alarms: 0,
      otherDocuments: 0,
      documentsLeftAlone: 0,
    },
  );
  assert.ok(auditEntries >= 6, "two mailboxes, two tokens and two applications were made");
  assert.ok(moved.unfinishedMessages + moved.tasks > 0, "what was under way came along");

  for (const what of ["measured", "latencies"]) {
    const ids = await redisCommand(redis.url, ["HKEYS", `${rig.env["REDIS_PREFIX"]}:{*}:${what}`]);
    assert.deepEqual([ids].flat().map(String).toSorted(), ["box-0", "box-1"], `${what} of the last day`);
  }

  rig.endpoint.answer((request) => (refused.has(subjectOf(request)) ? { status: 500 } : {}));
  const one = await rig.api("api-0");
  await checkTokens(one, await rig.api("api-1"), tokens);
  expect(await one.call("PUT", "/api/v1/applications/kept", { ...application, clientSecret: undefined }), 200);
  expect(await one.call("DELETE", "/api/v1/applications/gone"), 204);
  assert.equal((await one.call("GET", "/api/v1/mailboxes/box-1/record")).status, 200, "the record goes on");
  expect(await one.call("POST", "/api/v1/endpoints/resume", paused), 200);
  const again = await move(configOf(rig, alone.dataDir));
  assert.equal(again.endpointPauses + again.protocolRecords, 0);
  assert.equal(again.movedBefore, 2);
  assert.equal(again.mailboxes + again.deliveries + again.tokens + again.applications, 0);
  assert.equal(await statusWith(one, tokens.revoked), 401, "a revoked token does not come back");
  assert.equal(expect(await one.call("GET", "/api/v1/applications"), 200).total, 1, "nor does a removed application");
  for (const id of ["box-0", "box-1"]) await status(one, id, "listening");
  await rig.send("box-0");
  await one.until("all but the parked one", () => rig.missing().length === 1, 60_000);
  assert.equal(await count(one, "parked"), 1);
  await rig.mail.changeUidValidity("box-0", "INBOX");
  await rig.mail.disconnectAll();
  await rig.send("box-0");
  refused.clear();
  expect(await one.call("POST", "/api/v1/deliveries/replay", { since: "2020-01-01", state: "parked" }), 202);
  await rig.arrived(60_000);
  const ids = Map.groupBy(rig.endpoint.requests, subjectOf);
  for (const [subject, some] of ids) assert.equal(new Set(some.map(({ id }) => id)).size, 1, subject);
  assert.equal(rig.endpoint.repeats.length, 0);
}

type MadeToken = { id: string; token: string };
type MadeTokens = { kept: MadeToken; revoked: MadeToken };

async function makeTokens(node: Service): Promise<MadeTokens> {
  const make = async (name: string) =>
    expect(await node.call("POST", "/api/v1/tokens", { name, scopes: ["read"], mailboxPrefix: "box-1" }), 201);
  return { kept: await make("kept"), revoked: await make("revoked") };
}

const statusWith = async (node: Service, { token }: MadeToken) =>
  (await node.call("GET", "/api/v1/mailboxes", undefined, { authorization: `Bearer ${token}` })).status;

/** Both nodes accept the tokens. What one of them revokes the other refuses from the next request on. */
async function checkTokens(one: Service, other: Service, { kept, revoked }: MadeTokens): Promise<void> {
  for (const node of [one, other])
    for (const token of [kept, revoked]) assert.equal(await statusWith(node, token), 200);
  expect(await one.call("DELETE", `/api/v1/tokens/${revoked.id}`), 204);
  assert.deepEqual([await statusWith(other, revoked), await statusWith(one, revoked)], [401, 401]);
  const seen = await other.call("GET", "/api/v1/mailboxes", undefined, { authorization: `Bearer ${kept.token}` });
  assert.deepEqual(
    seen.body.items.map(({ id }: { id: string }) => id),
    ["box-1"],
  );
}
