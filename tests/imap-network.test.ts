/** IMAP over bad lines: half-open, slow, reset and cut connections are distinguished, and no wait is longer than its deadline. */
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { after, afterEach, before, describe, test } from "node:test";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { openMailbox } from "../shared/mail/open.ts";
import { PASSWORD } from "./bodies.ts";
import { all, depsFor, isProblem, mailboxOn, type Watch, watchOn } from "./promises/mailbox-rig.ts";
import { type ImapServer, startImapServer } from "./servers/imap/server.ts";
import { numbered } from "./servers/mail.ts";
import { type Proxy, startProxy } from "./servers/proxy.ts";

const { signal } = new AbortController();
const hasty = () => depsFor({ timeouts: { command: 400 }, probeMs: 300 });

describe("Over a bad line", () => {
  let server: ImapServer;
  let line: Proxy;
  const open: Watch[] = [];
  before(async () => {
    server = await startImapServer({ users: { bob: PASSWORD } });
    line = await startProxy({ port: server.imapsPort });
  });
  afterEach(async () => {
    await line.set({});
    for (const watch of open.splice(0)) await watch.stop();
  });
  after(async () => {
    await line.stop();
    await server.stop();
  });
  const bob = (): Mailbox => mailboxOn(server, "bob", { port: line.port });
  const watching = (deps = hasty()): Watch => {
    const watch = watchOn(bob(), deps);
    open.push(watch);
    return watch;
  };

  test("a half-open connection is found deaf, and closed", async () => {
    const watch = watching();
    await watch.connected();
    await line.set({ blackhole: true });
    assert.ok(isProblem("connection_stale", "later")(await watch.ended()));
    assert.equal(watch.connection.open, false);
  });

  test("a connection that leads nowhere is given up in time", async () => {
    await line.set({ blackhole: true });
    assert.ok(isProblem("timeout", "later")(await watching().ended()));
  });

  test("a reset and a closed port are said to be lost connections", async () => {
    const watch = watching();
    await watch.connected();
    line.resetAll();
    assert.ok(isProblem("connect", "later")(await watch.ended()));
    await line.set({ refuse: true });
    assert.ok(isProblem("connect", "later")(await watching().ended()));
  });

  test("a lost connection is not remembered by the lease that it was listened to under", async () => {
    const lease = new AbortController();
    const mail = openMailbox.imap(hasty(), bob());
    const connected = Promise.withResolvers<void>();
    const tell = ({ kind }: { kind: string }) => void (kind === "connected" && connected.resolve());
    const over = assert.rejects(all(mail.watch([], tell, lease.signal)), isProblem("connect", "later"));
    await connected.promise;
    line.resetAll();
    await over;
    await mail.close();
    assert.equal(getEventListeners(lease.signal, "abort").length, 0);
  });

  test("a download may take longer than a step, as long as it comes", async () => {
    await server.append("bob", "INBOX", numbered(1, { bytes: 200_000 }));
    const mail = openMailbox.imap(hasty(), bob());
    const refs = (await all(mail.listSince(new Date(0), [], signal))).flat();
    await line.set({ bytesPerSecond: 150_000 });
    const [got] = await all(mail.fetch(refs, signal));
    assert.ok(got && "raw" in got && got.raw.length >= 200_000);
    await line.set({ blackhole: true });
    await assert.rejects(all(mail.fetch(refs, signal)), isProblem("timeout", "later"));
    await mail.close();
  });

  test("a download that is cut is no download", async () => {
    const mail = openMailbox.imap(hasty(), bob());
    const refs = (await all(mail.listSince(new Date(0), [], signal))).flat();
    await line.set({ truncateAfter: 50_000 });
    await assert.rejects(all(mail.fetch(refs, signal)), isProblem("connect", "later"));
    await mail.close();
  });

  test("a slow line loses nothing", async () => {
    await line.set({ latencyMs: 50 });
    const watch = watching(depsFor());
    await watch.connected();
    const uids = await server.appendMany("bob", "INBOX", [numbered(2), numbered(3)]);
    assert.deepEqual(
      (await watch.until(2)).map((one) => one.uid),
      uids,
    );
  });
});
