/** Connections that workers keep for the next task: what they give although they are old. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import type { MailConnection } from "../shared/mail/mail.ts";
import { openMailbox } from "../shared/mail/open.ts";
import { memoryConnectionSlots } from "../shared/store/memory/connection-slots.ts";
import { backoffs } from "../shared/time.ts";
import { readerPool } from "../worker/mail/reader-pool.ts";
import { loginBackoff } from "../worker/mail/login-backoff.ts";
import { strangerLines } from "../worker/shares/lines.ts";
import { destinationsOf } from "../worker/shares/strangers.ts";
import { PASSWORD } from "./bodies.ts";
import { depsFor, mailboxOn } from "./promises/mailbox-rig.ts";
import { startImapServer } from "./servers/imap/server.ts";
import { message } from "./servers/mail.ts";
import type { MailServer } from "./servers/mail-server.ts";
import { dovecotOrSkip } from "./servers/provide.ts";

const never = new AbortController().signal;

async function all<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const row of rows) list.push(row);
  return list;
}

/** A message that came after the connection had selected its folder: it is downloaded, found and tidied all the same. */
async function seesWhatCameSince(server: MailServer): Promise<void> {
  await server.addUser("kept", PASSWORD);
  const mailbox: Mailbox = mailboxOn(server, "kept");
  const [one, two] = [openMailbox.imap(depsFor(), mailbox), openMailbox.imap(depsFor(), mailbox)];
  const send = (n: number) => server.append("kept", "INBOX", message({ subject: `mail ${n}` }));
  try {
    await send(1);
    const [first = []] = await all(one.listSince(new Date(0), [], never));
    assert.equal((await all(two.fetch(first, never))).length, 1);
    const uid = await send(2);
    const [both = []] = await all(one.listSince(new Date(0), [], never));
    assert.equal(both.length, 2, "found");
    const late = both.filter((ref) => ref.uid === uid);
    const [got] = await all(two.fetch(late, never));
    assert.ok(got && "raw" in got, "downloaded");
    const third = await send(3);
    const [three = []] = await all(one.listSince(new Date(0), [], never));
    const latest = three.filter((ref) => ref.uid === third);
    await two.applyAfterDelivery(latest, "markRead", never);
    assert.ok((await server.flags("kept", "INBOX")).get(third)?.includes("\\Seen"), "tidied");
  } finally {
    await one.close();
    await two.close();
  }
}

describe("a connection that has had the folder open for a while", () => {
  test("gives what came since, in process", async () => {
    const server = await startImapServer();
    await seesWhatCameSince(server).finally(() => server.stop());
  });

  test("gives what came since, on Dovecot", async (t) => {
    const server = await dovecotOrSkip(t);
    if (server) await seesWhatCameSince(server);
  });
});

describe("connections of several workers to one mailbox", () => {
  const mailbox = mailboxOn({ imapsPort: 0, imapPort: 1, host: "127.0.0.1", ca: undefined } as MailServer, "one");
  test("are never more than the bound, and one that is kept idle makes room for another worker's", async () => {
    const { workers, open, end } = crew(3, 2, 10_000);
    const done: number[] = [];
    const work = async (n: number) => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      done.push(n);
    };
    await Promise.all(Array.from({ length: 30 }, (_, n) => workers[n % 3]!.use(mailbox, 0, () => work(n), never)));
    assert.equal(done.length, 30);
    assert.equal(open.most, 2);
    await end();
    assert.equal(open.now, 0);
  });

  test("are waited for a bounded time, then the task is put off", async () => {
    const { workers, end } = crew(2, 1, 600);
    const held = Promise.withResolvers<void>();
    const first = workers[0]!.use(mailbox, 0, () => held.promise, never);
    await assert.rejects(
      workers[1]!.use(mailbox, 0, async () => undefined, never),
      (error: unknown) => error instanceof Problem && error.code === "too_many_connections" && error.retry === "later",
    );
    held.resolve();
    await first;
    await workers[1]!.use(mailbox, 0, async () => undefined, never);
    await end();
  });
});

test("tasks that are called off while they wait for a connection take no place from those that still wait", async () => {
  const mailbox = mailboxOn({ imapsPort: 0, imapPort: 1, host: "127.0.0.1", ca: undefined } as MailServer, "one");
  const { workers, open, end } = crew(1, 2, 60_000);
  const [worker] = workers;
  const held = Promise.withResolvers<void>();
  const first = [1, 2].map(() => worker!.use(mailbox, 0, () => held.promise, never));
  const stop = new AbortController();
  const gone = Array.from({ length: 20 }, () => worker!.use(mailbox, 0, async () => undefined, stop.signal));
  const order: number[] = [];
  const staying = Array.from({ length: 5 }, (_, n) => worker!.use(mailbox, 0, async () => void order.push(n), never));
  stop.abort(new DOMException("stopping", "AbortError"));
  for (const one of gone) await assert.rejects(one, { name: "AbortError" });
  held.resolve();
  await Promise.all([...first, ...staying]);
  assert.deepEqual([order, open.most], [[0, 1, 2, 3, 4], 2]);
  await end();
});

/** So many workers, with connections that only count themselves. */
function crew(count: number, perMailbox: number, waitMs: number) {
  const slots = memoryConnectionSlots();
  const stop = new AbortController();
  const open = { now: 0, most: 0 };
  const connect = () => {
    open.most = Math.max(open.most, ++open.now);
    let there = true;
    const close = async () => void (there && ((there = false), (open.now -= 1)));
    return {
      get open() {
        return there;
      },
      close,
    } as unknown as MailConnection;
  };
  const workers = Array.from({ length: count }, () => {
    const getDestinations = destinationsOf({ deliveriesPerEndpoint: 64, readersPerMailbox: perMailbox });
    const refusals = loginBackoff(backoffs(0.01));
    const lines = strangerLines({ inHand: 512 });
    const deps = { lines, getDestinations, connect, watched: new Map(), slots, perMailbox, waitMs, refusals };
    const one = readerPool(deps);
    return { ...one, ran: one.run(stop.signal) };
  });
  const end = async () => {
    stop.abort();
    await Promise.all(workers.map(({ ran }) => ran));
  };
  return { workers, open, end };
}
