/**
 * What follows a kill -9 with many mailboxes, from the start of the process on: until the first mail that came meanwhile is delivered,
 * until all mailboxes are listened to, and how many the node says are listened to before they are.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { importAll, type Lean, leanIds, row, withLean } from "./density.ts";
import type { Row, Setup } from "./report.ts";
import { numberedMail, startSink } from "./sink.ts";

const FIRST_GOAL = 2;
const ALL_GOAL = 35;
const LISTENING_MS = 600_000;
/** One mail for so many mailboxes each. */
const MAILS = 100;
const BYTES = 10_000;
/** What an administrator gets: 150 connections a second. */
const DEFAULTS = { CONNECTIONS_PER_HOST_PER_SECOND: "", BACKOFF_SCALE: "" };

/** Kills a node with `--registered` mailboxes. */
export async function recovery({ sizes, runtime }: Setup): Promise<Row[]> {
  const count = sizes.registered;
  const sink = await startSink();
  try {
    return await withLean({ runtime, env: DEFAULTS }, async (on) => {
      const ids = leanIds(0, count);
      await importAll(on, ids, { deliver: { url: sink.url } });
      await on.lean.untilIdling(count, LISTENING_MS);
      // The states are written a moment later.
      await sleep(2_000);
      await on.service.kill();
      const every = Math.max(1, Math.floor(count / MAILS));
      const users = ids.filter((_, n) => n % every === 0);
      await on.lean.deliver(users.map((user, n) => ({ user, raw: numberedMail(n, BYTES) })));
      return await recovered(on, { count, sink, mails: users.length });
    });
  } finally {
    await sink.close();
  }
}

async function recovered(
  on: Lean,
  { count, sink, mails }: { count: number; sink: Awaited<ReturnType<typeof startSink>>; mails: number },
): Promise<Row[]> {
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  const first = sink.all(1, LISTENING_MS).then(seconds);
  await on.service.start();
  let early = 0;
  for (let idling = 0; idling < count; await sleep(100)) {
    const { total } = (await on.service.call("GET", "/api/v1/mailboxes?status=listening&limit=1")).body;
    // Counted afterwards, so that what begins to listen in between counts for the node.
    const counts = await on.lean.counts();
    idling = counts.idling;
    early = Math.max(early, Number(total) - counts.open);
    if (seconds() * 1000 > LISTENING_MS) throw new Error(`${idling} of ${count} mailboxes are listened to`);
  }
  const all = seconds();
  await sink.all(mails, LISTENING_MS);
  return [
    row(`seconds until the first of ${mails} mails is delivered, ${count} mailboxes`, await first, FIRST_GOAL, "s"),
    row(`seconds until all ${count} are listened to after kill -9`, all, ALL_GOAL, "s"),
    { what: "mailboxes said to be listening before they are", ours: String(early), bare: "0", compared: "" },
  ];
}
