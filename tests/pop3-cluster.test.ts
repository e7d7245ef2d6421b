/** Two nodes and one maildrop: one of them picks, the other takes over, and every part is delivered once. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { PASSWORD, popBody, register, toEndpoint } from "./bodies.ts";
import { clusterRig, expect, type Rig } from "./cluster-rig.ts";
import { bothRuntimes } from "./service.ts";
import { numbered } from "./servers/mail.ts";
import { type Pop3Server, startPop3Server } from "./servers/pop3.ts";
import { provide } from "./servers/provide.ts";
import type { Redis } from "./servers/redis.ts";
import { subjects } from "./stories/scene.ts";

const COUNT = 3_000;
const subject = (n: number) => `Message ${String(n).padStart(5, "0")}`;
const wanted = Array.from({ length: COUNT }, (_, n) => subject(n));

describe("two nodes and one maildrop", () => {
  let redis: Redis | undefined;
  before(async () => {
    redis = (await provide("redis"))?.server;
  });
  after(async () => redis?.remove());

  for (const processLock of [false, true]) {
    test(`each part is delivered once, through the death of the picker too, process lock ${processLock}`, async (t) => {
      if (!redis) return t.skip("no redis");
      // What the dead picker had in hand is waited for, so it is held for less than in production.
      const env = { CLAIM_SECONDS: "8" };
      const [rig, pop] = await Promise.all([
        clusterRig({ command: bothRuntimes, redisUrl: redis.url, env }),
        startPop3Server(),
      ]);
      try {
        await picked(rig, pop, processLock);
      } finally {
        await rig.end();
        await pop.stop();
      }
    });
  }
});

async function picked({ api, endpoint }: Rig, pop: Pop3Server, processLock: boolean): Promise<void> {
  const [one, two] = await Promise.all([api("api-0"), api("api-1")]);
  pop.addUser("ann", PASSWORD);
  const add = (n: number) => pop.add("ann", numbered(n, { subject: subject(n) }));
  for (let n = 0; n < COUNT / 2; n++) add(n);
  const receive = { processLock, afterDelivery: "delete" };
  await register(one, popBody(pop, "ann", { id: "drop", receive, deliver: { ...toEndpoint(endpoint), split: {} } }));
  await endpoint.waitFor(COUNT / 10, 60_000);
  const { node } = expect(await two.call("GET", "/api/v1/mailboxes/drop"), 200).state;
  const picker = node === "api-0" ? one : two;
  await picker.kill();
  for (let n = COUNT / 2; n < COUNT; n++) add(n);
  await endpoint.waitFor(COUNT, 120_000);
  assert.deepEqual(subjects(endpoint), wanted);
  assert.equal(new Set(endpoint.requests.map(({ id }) => id)).size, COUNT, "one id each");
  const other = picker === one ? two : one;
  await other.until("the maildrop to be empty", () => pop.messages("ann").length === 0, 120_000);
}
