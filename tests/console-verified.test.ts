/** After the death of a node nothing says any more that its mailboxes are listened to: neither their mark nor their bar. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { clusterRig, expect, shared } from "./cluster-rig.ts";
import { provide } from "./servers/provide.ts";
import type { Redis } from "./servers/redis.ts";
import { type Service, TOKEN } from "./service.ts";

const UNNOTICED_MS = 120_000;

test("when a node was killed, the mark of its mailbox turns grey at the same moment as the end of its bar", async (t) => {
  const redis = (await provide("redis"))?.server;
  if (!redis) return t.skip("no redis");
  const rig = await clusterRig({ redisUrl: redis.url, env: { MAILBOXES_PER_NODE: "1" } });
  try {
    const dying = await rig.api("dying");
    const other = await rig.api("other");
    await rig.register(other, 2);
    await shared(other, 2, { dying: 1, other: 1 });
    const mailboxes = expect(await other.call("GET", "/api/v1/mailboxes"), 200).items;
    const lost = mailboxes.find((one: any) => one.state.node === "dying").id;
    const alive = mailboxes.find((one: any) => one.state.node === "other").id;
    const show = await logIn(other);
    const good = { mark: "listening", row: "listening", isBarGood: true };
    await other.until("a bar", async () => (await show(lost)).isBarGood && (await show(alive)).isBarGood);

    await dying.kill();
    assert.deepEqual(await show(lost), good);
    await reportedAt(redis, rig.env["REDIS_PREFIX"] ?? "", "dying", Date.now() - UNNOTICED_MS + 20_000);
    assert.deepEqual(await show(lost), good);
    await reportedAt(redis, rig.env["REDIS_PREFIX"] ?? "", "dying", Date.now() - UNNOTICED_MS - 1_000);
    assert.deepEqual(await show(lost), { mark: "not verified", row: "not verified", isBarGood: false });
    // The server's last answer alone would still count.
    const { state } = expect(await other.call("GET", `/api/v1/mailboxes/${lost}`), 200);
    assert.equal(state.status, "listening");
    assert.ok(Date.now() - Date.parse(state.lastVerifiedAt) < UNNOTICED_MS);

    assert.deepEqual(await show(alive), good);
    const matching = await show.text("/mailboxes?state=unverified");
    assert.ok(matching.includes(`/mailboxes/${lost}"`) && !matching.includes(`/mailboxes/${alive}"`));
    await other.until("the cause on the first page", async () =>
      /1 of 2 mailboxes are listened/.test(await show.text("/")),
    );
    assert.match(await show.text("/"), /not answered for more than twice the usual time, or no node reports it/);

    await other.stop();
    const back = await rig.api("dying");
    const again = await logIn(back);
    await back.until(
      "one of them again",
      async () => (await again(lost)).mark === "listening" || (await again(alive)).mark === "listening",
    );
  } finally {
    await rig.end();
    await redis.remove();
  }
});

/** The word of the first mark. */
const markIn = (html: string) => /class="state [a-z]+"><svg.*?<\/svg>([^<]*)/s.exec(html)?.[1]?.trim();

/** Reads what the page and the list show of a mailbox. */
async function logIn(service: Service) {
  const form = new URLSearchParams({ token: TOKEN });
  const login = await fetch(`${service.url}/login`, { method: "POST", redirect: "manual", body: form });
  const cookie = login.headers.get("set-cookie")?.split(";")[0] ?? "";
  const text = async (path: string) => (await fetch(service.url + path, { headers: { cookie } })).text();
  const show = async (id: string) => {
    const page = await text(`/mailboxes/${id}`);
    const list = await text("/mailboxes");
    const row = list.slice(list.indexOf(`/mailboxes/${id}"`));
    const isBarGood =
      !/nobody was there \d/.test(page) && /State of the last 24 h/.test(page) && /listening \d+ min/.test(page);
    return { mark: markIn(page.slice(page.indexOf("<main"))), row: markIn(row), isBarGood };
  };
  return Object.assign(show, { text });
}

/** As if the last report of the node had come then. */
async function reportedAt(redis: Redis, prefix: string, node: string, until: number): Promise<void> {
  const key = `${prefix}:{*}:runs`;
  const stored = (await redis.command("HGETALL", key)) as string[];
  const n = stored.findIndex((text, at) => at % 2 === 1 && String(text).endsWith(` ${node}`));
  assert.ok(n > 0, `no run of ${node}: ${stored.join(", ")}`);
  await redis.command("HSET", key, String(stored[n - 1]), `${until - 60_000} ${until} ${node}`);
}
