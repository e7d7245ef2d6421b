/** A mailbox reached by POP3: looked at in runs, each in a session of its own; downloads and deletions take short sessions between. */
import type { Arrival, Cursor } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import { batches } from "../batches.ts";
import type { MailConnection, WatchSign } from "../mail.ts";
import { inRuns } from "../poll-loop.ts";
import type { Pop3Deps, Pop3Mailbox } from "./client.ts";
import { compared, EPOCH, FOLDER, receivedSince } from "./compare.ts";
import { deleted, downloaded, headed } from "./fetch.ts";
import { type Maildrop, type Maildrops, maildrops } from "./maildrops.ts";

/** `maildrops` is what all connections of this process take turns by. */
export type Pop3ConnectionDeps = Pop3Deps & { maildrops?: Maildrops };

/** A MailConnection over POP3. Nothing connects before it is used; after `close` every call throws. */
export function pop3Connection(given: Pop3ConnectionDeps, mailbox: Pop3Mailbox): MailConnection {
  const { maildrops: drops = maildrops(), ...deps } = given;
  const life = new AbortController();

  function inSession<T>(fresh: boolean, work: (maildrop: Maildrop) => Promise<T>, signal: AbortSignal): Promise<T> {
    return drops.use({ deps, mailbox, fresh }, work, AbortSignal.any([signal, life.signal]));
  }

  async function* watch(
    cursors: Cursor[],
    tell: (sign: WatchSign) => void,
    signal: AbortSignal,
  ): AsyncGenerator<Arrival, void, undefined> {
    const startedAt = performance.now();
    let cursor = cursors.find(({ folder }) => folder === FOLDER);
    let connected = false;
    const look = async (maildrop: Maildrop) => {
      const capabilities = [...maildrop.session.capabilities.keys()];
      return { capabilities, arrivals: await compared({ mailbox, maildrop, emit: deps.emit }, cursor) };
    };
    async function* run(): AsyncGenerator<Arrival, void, undefined> {
      const { capabilities, arrivals } = await inSession(true, look, signal);
      tell({ kind: "verified" });
      for (const arrival of arrivals) {
        yield arrival;
        cursor = arrival.cursor;
      }
      const ms = Math.round(performance.now() - startedAt);
      if (!connected) tell({ kind: "connected", push: false, ms, capabilities });
      connected = true;
    }
    try {
      yield* inRuns({ poll: mailbox.receive.poll, tell }, run, () => Promise.resolve(), signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  return {
    watch,
    async *since(date, cursors, signal) {
      const cursor = cursors.find(({ folder, epoch }) => folder === FOLDER && epoch === EPOCH);
      yield* await inSession(true, (maildrop) => receivedSince(maildrop, cursor, date), signal);
    },
    async *fetch(messages, signal) {
      if (messages.some(({ epoch }) => epoch !== EPOCH)) throw stale();
      for (const batch of batches(messages.toSorted((a, b) => a.uid - b.uid))) {
        const { got, missing } = await inSession(false, (maildrop) => downloaded(maildrop, batch), signal);
        yield* got;
        // A session that was open already does not see what came later; a new one does.
        if (missing.length > 0) yield* (await inSession(true, (maildrop) => downloaded(maildrop, missing), signal)).got;
      }
    },
    async *heads(messages, signal) {
      yield* await inSession(false, (maildrop) => headed(maildrop, messages), signal);
    },
    async tidy(messages, action, signal) {
      if (action !== "delete" && !(typeof action === "object" && "deleteAfterDays" in action)) return;
      const ours = messages.filter(({ epoch }) => epoch === EPOCH);
      const missing = await inSession(false, (maildrop) => deleted(maildrop, ours), signal);
      if (missing.length > 0) await inSession(true, (maildrop) => deleted(maildrop, missing), signal);
    },
    async folders(signal) {
      await inSession(false, () => Promise.resolve(), signal);
      return [{ path: FOLDER, name: FOLDER, parent: null, specialUse: null, selectable: true }];
    },
    get open() {
      return drops.isOpen(mailbox);
    },
    async close() {
      life.abort(new Problem("connect", "This mail connection was closed"));
      await drops.close(mailbox);
    },
  };
}

function stale(): Problem {
  return new Problem("gone", "The mailbox was received by another protocol when this message was handed over", {
    retry: "never",
  });
}
