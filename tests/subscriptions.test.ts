/** The subscriptions of a node: what changes is compared, and nothing else; one that ends slowly keeps no other mailbox waiting. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { singleLeases } from "../api/lease/single.ts";
import { mailboxStates } from "../api/listen/states.ts";
import { mailboxSubscriptions } from "../api/listen/subscriptions.ts";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import type { MailConnection } from "../shared/mail/mail.ts";
import { openMailbox } from "../shared/mail/open.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import { vault } from "../shared/store/vault.ts";
import type { FactBody } from "../shared/telemetry/events.ts";
import { backoffs, clock } from "../shared/time.ts";
import { PASSWORD } from "./bodies.ts";
import { depsFor, mailboxOn } from "./promises/mailbox-rig.ts";
import { startImapServer } from "./servers/imap/server.ts";
import { movableClock } from "./clock.ts";
import { eventually } from "./servers/waiting.ts";

/** A node that listens to the mailboxes of its store; what is in `holding` does not come to its end before that is resolved. */
async function listening(backoff = backoffs(0.01)) {
  const server = await startImapServer();
  const keys = [{ id: "k", key: generateEncryptionKey() }];
  const store = await sqliteStore({ path: ":memory:", vault: vault(keys), windowDays: 7, spoolBytes: 1e6 });
  const facts: FactBody[] = [];
  const emit = (fact: FactBody) => void facts.push(fact);
  const holding = new Map<string, Promise<void>>();
  const watched = new Map<string, MailConnection>();
  const connect = (mailbox: Mailbox): MailConnection => {
    const connection = openMailbox.imap(depsFor(), mailbox);
    const close = async () => {
      await holding.get(mailbox.id);
      await connection.close();
    };
    return Object.create(connection, { close: { value: close } }) as MailConnection;
  };
  const ownership = {
    leases: singleLeases(store.cursors),
    share: (enabled: readonly string[]) => ({ mine: new Set(enabled), surplus: 0, unserved: 0 }),
    claim: (changed: readonly string[]) => new Set(changed),
    onChange: () => undefined,
    announce: () => undefined,
    nodes: { known: () => [], now: async () => [] },
    hints: undefined,
    parts: [],
  };
  const board = mailboxStates({ mailboxes: store.mailboxes, emit, node: "here" });
  const tasks = { send: async () => undefined };
  const { mailboxes, applications, cursors, deliveries } = store;
  const deps = {
    mailboxes,
    applications,
    cursors,
    deliveries,
    tasks,
    ownership,
    board,
    connections: { note: () => undefined, forget: () => undefined },
    backoff,
    connect,
    watched,
    emit,
  };
  const subscriptions = mailboxSubscriptions(deps);
  const stop = new AbortController();
  const running = [subscriptions.run(stop.signal), board.run(stop.signal)];
  /** How many rows of mailboxes were read by lists, over all statements so far. */
  const rows = { read: 0 };
  const { all } = store.database;
  store.database.all = (sql, ...values) => {
    const found = all(sql, ...values);
    if (sql.includes("from mailboxes")) rows.read += found.length;
    return found;
  };
  return {
    server,
    store,
    rows,
    facts,
    holding,
    subscriptions,
    status: async (id: string) => (await mailboxes.get(id))?.state.status,
    async save(user: string, change: Partial<Mailbox> = {}) {
      const stored = await mailboxes.get(`box-${user}`);
      if (!stored) await server.addUser(user, PASSWORD);
      const mailbox = stored?.mailbox ?? { ...mailboxOn(server, user), revision: 0 };
      await mailboxes.put({ ...mailbox, ...change });
      subscriptions.wake();
      return mailbox.id;
    },
    async end() {
      stop.abort(new DOMException("over", "AbortError"));
      await Promise.all(running);
      await store.close();
      await server.stop();
    },
  };
}

test("while a subscription ends slowly the others are begun, ended and begun anew, and its own mailbox follows in turn", async () => {
  const node = await listening();
  const slowly = Promise.withResolvers<void>();
  try {
    const ids = await Promise.all(["slow", "paused", "changed"].map((user) => node.save(user)));
    for (const id of ids)
      await eventually(async () => (await node.status(id)) === "listening", `${id} to be listened to`);
    node.holding.set("box-slow", slowly.promise);
    await node.save("slow", { address: "other@example.com" });
    await node.save("paused", { paused: true });
    const said = () => node.facts.some((fact) => fact.kind === "mailbox.status" && fact.status === "paused");
    await eventually(said, "the paused one to have ended");
    await node.save("new");
    await eventually(async () => (await node.status("box-new")) === "listening", "a new one");
    const connected = (id: string) =>
      node.facts.filter((fact) => fact.kind === "mailbox.connected" && fact.mailbox === id).length;
    await node.save("changed", { address: "changed@example.com" });
    await eventually(() => connected("box-changed") === 2, "the changed one to be connected anew");
    assert.equal(connected("box-slow"), 1, "it has one connection at a time");
    slowly.resolve();
    await eventually(() => connected("box-slow") === 2, "the slow one to be connected anew");
    await eventually(async () => (await node.status("box-slow")) === "listening", "its state to be written");
  } finally {
    slowly.resolve();
    await node.end();
  }
});

test("a registration, a change and a removal read the mailbox that changed, and none of the others", async () => {
  const node = await listening();
  try {
    const users = Array.from({ length: 30 }, (_, n) => `user-${n}`);
    for (const user of users) await node.save(user);
    await eventually(async () => (await node.status("box-user-29")) === "listening", "all to be listened to");
    node.rows.read = 0;
    await node.save("new");
    await eventually(async () => (await node.status("box-new")) === "listening", "the new one");
    assert.equal(node.rows.read, 1);
    await node.save("new", { paused: true });
    const said = () => node.facts.some((fact) => fact.kind === "mailbox.status" && fact.status === "paused");
    await eventually(said, "the paused one to have ended");
    assert.equal(node.subscriptions.connections().subscriptions, 30);
    await node.store.mailboxes.remove("box-user-0");
    node.subscriptions.wake();
    await eventually(() => node.subscriptions.connections().subscriptions === 29, "the removed one to have ended");
    assert.equal(node.rows.read, 1, "what is paused or removed has no row to read");
  } finally {
    await node.end();
  }
});

test("a change that nobody reported is found by the comparison of all", async () => {
  using time = movableClock();
  const node = await listening();
  try {
    const ids = [await node.save("one"), await node.save("other")];
    for (const id of ids) await eventually(async () => (await node.status(id)) === "listening", `${id}`);
    node.store.database.run("update mailboxes set paused = 1 where id = ?", "box-one");
    node.subscriptions.wake();
    await node.save("third");
    await eventually(async () => (await node.status("box-third")) === "listening", "the third one");
    assert.equal(node.subscriptions.connections().subscriptions, 3, "no other change finds it");
    await time.advance(600_000);
    await eventually(() => node.subscriptions.connections().subscriptions === 2, "the paused one to have ended");
  } finally {
    await node.end();
  }
});

test("a login that is refused in words that nobody knows is tried after 15 seconds, then 2, 10 and 15 minutes: the password may be wrong", async () => {
  using time = movableClock();
  const { server, facts, save, end } = await listening(backoffs(1));
  server.faults.onCommand("AUTHENTICATE", { reply: "NO Es ist ein Fehler aufgetreten" });
  try {
    await save("ann");
    const waits: number[] = [];
    for (let times = 1; times <= 5; times += 1) {
      const failures = () => facts.filter((fact) => fact.kind === "mailbox.disconnected");
      await eventually(() => failures().length === times, `failure ${times}`);
      const { retryAt = "", failure } = failures().at(-1) ?? {};
      assert.equal(failure?.code, "unavailable");
      waits.push(Date.parse(retryAt) - clock.now());
      await time.advance(waits.at(-1) ?? 0);
    }
    const least = [10_000, 80_000, 400_000, 600_000, 600_000];
    assert.deepEqual(
      waits.map((ms, at) => ms >= (least[at] ?? 0)),
      least.map(() => true),
      String(waits),
    );
  } finally {
    await end();
  }
});
