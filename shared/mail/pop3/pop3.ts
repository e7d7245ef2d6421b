/**
 * A mailbox that is received by POP3. Each run has a session of its own. Downloads and deletions take short sessions in
 * between.
 */
import type { ServerFacts } from "../../contract/learned.ts";
import type { Arrival, Cursor } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import { splitIntoBatches } from "../batches.ts";
import type { MailConnection, WatchEvent } from "../mail.ts";
import { pollLoop } from "../poll-loop.ts";
import type { Pop3Deps, Pop3Mailbox } from "./client.ts";
import { compareWithCursor, FOLDER, isPop3Epoch, listReceivedSince } from "./compare.ts";
import { deleteMessages, downloadMessages, fetchHeaders } from "./fetch.ts";
import { type Maildrop, type MaildropPool, maildropPool } from "./maildrops.ts";

/** All connections of this process take turns through `maildrops`. */
export type Pop3ConnectionDeps = Pop3Deps & { maildrops?: MaildropPool };

/** Runs `work` in a session of the maildrop. `fresh` means a new session, which sees what has arrived until now. */
type UseSession = <T>(fresh: boolean, work: (maildrop: Maildrop) => Promise<T>, signal: AbortSignal) => Promise<T>;

/** A MailConnection over POP3. Nothing connects before it is used. After `close` every call throws. */
export function pop3Connection(given: Pop3ConnectionDeps, mailbox: Pop3Mailbox): MailConnection {
  const { maildrops: pool = maildropPool(), ...deps } = given;
  const lifetime = new AbortController();

  let facts: ServerFacts | undefined;

  const inSession: UseSession = (fresh, work, signal) => {
    const noting: typeof work = (maildrop) => {
      facts = maildrop.session.facts;
      return work(maildrop);
    };
    return pool.use({ deps, mailbox, fresh }, noting, AbortSignal.any([signal, lifetime.signal]));
  };

  return {
    watch: (cursors, notify, signal) => watchMaildrop({ mailbox, inSession, emit: deps.emit, notify }, cursors, signal),
    async *listSince(date, cursors, signal) {
      const cursor = cursors.find(({ folder, epoch }) => folder === FOLDER && isPop3Epoch(epoch));
      yield* await inSession(true, (maildrop) => listReceivedSince(maildrop, cursor, date), signal);
    },
    async *fetch(messages, signal) {
      if (!messages.every(({ epoch }) => isPop3Epoch(epoch))) throw toStaleProblem();
      for (const batch of splitIntoBatches(messages.toSorted((a, b) => a.uid - b.uid))) {
        const { results: got, missing } = await inSession(
          false,
          (maildrop) => downloadMessages(maildrop, batch),
          signal,
        );
        yield* got;
        // An open session does not see later messages. A new one does.
        if (missing.length > 0)
          yield* (await inSession(true, (maildrop) => downloadMessages(maildrop, missing), signal)).results;
      }
    },
    async *fetchHeaders(messages, signal) {
      yield* await inSession(false, (maildrop) => fetchHeaders(maildrop, messages), signal);
    },
    async applyAfterDelivery(messages, action, signal) {
      if (action !== "delete" && !(typeof action === "object" && "deleteAfterDays" in action)) return [];
      const ours = messages.filter(({ epoch }) => isPop3Epoch(epoch));
      const missing = await inSession(false, (maildrop) => deleteMessages(maildrop, ours), signal);
      if (missing.length > 0) await inSession(true, (maildrop) => deleteMessages(maildrop, missing), signal);
      return [];
    },
    async listFolders(signal) {
      await inSession(false, () => Promise.resolve(), signal);
      return [{ path: FOLDER, name: FOLDER, parent: null, specialUse: null, selectable: true }];
    },
    get open() {
      return pool.isOpen(mailbox);
    },
    describe: () => facts,
    async close() {
      lifetime.abort(new Problem("connect", "This mail connection was closed"));
      await pool.close(mailbox);
    },
  };
}

type WatchMaildropDeps = {
  mailbox: Pop3Mailbox;
  inSession: UseSession;
  emit: Pop3Deps["emit"];
  notify: (event: WatchEvent) => void;
};

/** Compares the maildrop in runs, as its schedule says, and yields new messages. Returns when the signal aborts. */
async function* watchMaildrop(
  { mailbox, inSession, emit, notify }: WatchMaildropDeps,
  cursors: Cursor[],
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const startedAt = performance.now();
  let cursor = cursors.find(({ folder }) => folder === FOLDER);
  let connected = false;
  const compare = async (maildrop: Maildrop) => {
    const capabilities = [...maildrop.session.capabilities.keys()];
    return { capabilities, arrivals: await compareWithCursor({ mailbox, maildrop, emit }, cursor) };
  };
  async function* run(): AsyncGenerator<Arrival, void, undefined> {
    const { capabilities, arrivals } = await inSession(true, compare, signal);
    notify({ kind: "verified" });
    for (const arrival of arrivals) {
      yield arrival;
      cursor = arrival.cursor;
    }
    const ms = Math.round(performance.now() - startedAt);
    if (!connected) notify({ kind: "connected", push: false, ms, capabilities });
    connected = true;
  }
  try {
    yield* pollLoop({ poll: mailbox.receive.poll, notify }, run, () => Promise.resolve(), signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

function toStaleProblem(): Problem {
  return new Problem("gone", "The mailbox was received by another protocol when this message was handed over", {
    retry: "never",
  });
}
