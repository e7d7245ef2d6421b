/** Two nodes and Exchange mailboxes: the one that listens dies amid a backlog, the other goes on, and every message is delivered once. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ewsBody, PASSWORD, register, toEndpoint } from "./bodies.ts";
import { clusterRig, expect, type Rig } from "./cluster-rig.ts";
import { bothRuntimes } from "./service.ts";
import { type Exchange, startExchange } from "./servers/exchange/server.ts";
import { numbered } from "./servers/mail.ts";
import { provide } from "./servers/provide.ts";
import type { Redis } from "./servers/redis.ts";
import { subjects } from "./stories/scene.ts";

const USERS = ["ann", "bob", "eve"];
const COUNT = 900;
const subject = (n: number) => `Message ${String(n).padStart(5, "0")}`;
const wanted = Array.from({ length: COUNT }, (_, n) => subject(n));

describe("two nodes and mailboxes on Exchange", { timeout: 240_000 }, () => {
  let redis: Redis | undefined;
  before(async () => {
    redis = (await provide("redis"))?.server;
  });
  after(async () => redis?.remove());

  test("each message is delivered once, through the death of the node that listened", async (t) => {
    if (!redis) return t.skip("no redis");
    // What the dead node had in hand is waited for, so it is held for less than in production.
    const env = { CLAIM_SECONDS: "8" };
    const [rig, exchange] = await Promise.all([
      clusterRig({ command: bothRuntimes, redisUrl: redis.url, env }),
      startExchange({ tls: true }),
    ]);
    try {
      await listened(rig, exchange);
    } finally {
      await rig.end();
      await exchange.stop();
    }
  });
});

const addressOf = (user: string) => `${user}@example.com`;

async function listened({ api, endpoint }: Rig, exchange: Exchange): Promise<void> {
  const [one, two] = await Promise.all([api("api-0"), api("api-1")]);
  for (const user of USERS) await exchange.addUser(addressOf(user), PASSWORD);
  const add = (n: number) => {
    const user = USERS[n % USERS.length] ?? "ann";
    return exchange.append(addressOf(user), "inbox", numbered(n, { subject: subject(n) }));
  };
  for (let n = 0; n < COUNT / 2; n++) await add(n);
  const receive = { since: "2001-01-01", afterDelivery: { move: "Done" } };
  for (const user of USERS)
    await register(one, ewsBody(exchange, addressOf(user), { id: user, receive, deliver: toEndpoint(endpoint) }));
  await endpoint.waitFor(COUNT / 10, 60_000);
  const { node } = expect(await two.call("GET", "/api/v1/mailboxes/ann"), 200).state;
  const [dies, lives] = node === "api-1" ? [two, one] : [one, two];
  await dies.kill();
  for (let n = COUNT / 2; n < COUNT; n++) await add(n);
  await endpoint.waitFor(COUNT, 120_000);
  assert.deepEqual(subjects(endpoint), wanted);
  assert.equal(new Set(endpoint.requests.map(({ id }) => id)).size, COUNT, "one id each");
  const count = (folder: string) =>
    USERS.reduce((sum, user) => sum + exchange.items(addressOf(user), folder).length, 0);
  await lives.until("all messages to be moved", () => count("inbox") === 0, 120_000);
  assert.equal(count("Done"), COUNT);
}
