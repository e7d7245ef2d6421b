/**
 * One logged-in IMAP connection, shared by everybody who needs it: callers take turns, so nobody finds another folder selected
 * than the one asked for, and each turn ends by an answer or by a deadline that cuts the connection.
 */
import type { ImapFlow, MailboxObject } from "imapflow";
import { Problem } from "../../contract/problem.ts";
import { within } from "../../time.ts";
import { patiently } from "../net/idle-timeout.ts";
import { farewell, problemOf } from "../problems.ts";

const MINUTE = 60 * 1000;
/** More than any turn takes, a large download over a slow line included. */
const LONGEST_MS = 60 * MINUTE;

export interface Session {
  readonly client: ImapFlow;
  readonly open: boolean;
  /** Aborts when the connection is over; its reason is the Problem that ended it. */
  readonly ended: AbortSignal;
  /** Counts the turns taken, so that a listener can tell who broke its IDLE. */
  readonly turns: number;
  /**
   * Has the connection for itself while `work` runs; a running IDLE is broken by its first command. Throws a Problem, or the
   * signal's reason at once when it aborts (the turn itself then ends in the background).
   */
  ask<T>(what: string, work: () => Promise<T>, signal: AbortSignal, capMs?: number): Promise<T>;
  /**
   * As `ask`, with a folder selected. Throws `folder` (retry never) when there is none of this name. With `current`, `work` sees
   * what arrived since the folder was selected; without, it may not (RFC 9051 section 7: servers tell when they like).
   */
  inFolder<T>(
    folder: string,
    what: string,
    work: (box: MailboxObject) => Promise<T>,
    signal: AbortSignal,
    options?: { capMs?: number; afresh?: boolean; current?: boolean },
  ): Promise<T>;
  /** Ends the connection at once, for this reason. */
  cut(problem: Problem): void;
  /** Logs out within 2 seconds, or cuts the connection. */
  close(): Promise<void>;
}

/** Wraps a client that is logged in. `quietMs` is how long the server may be silent while it owes an answer. */
export function sessionOver(client: ImapFlow, options: { quietMs: number; secrets: readonly string[] }): Session {
  const { quietMs, secrets } = options;
  const ended = new AbortController();
  let turns = 0;
  let last: Promise<void> = Promise.resolve();

  const cut = (problem: Problem) => {
    ended.abort(problem);
    client.close();
  };
  client.on("error", (error) => cut(problemOf(error, { step: "command", secrets, bye: client.byeReason })));
  client.on("close", () => ended.abort(farewell(client.byeReason, secrets)));
  const translated = (error: unknown) =>
    ended.signal.aborted ? ended.signal.reason : problemOf(error, { step: "command", secrets, bye: client.byeReason });

  async function turn<T>(what: string, work: () => Promise<T>, signal: AbortSignal, capMs: number): Promise<T> {
    signal.throwIfAborted();
    if (ended.signal.aborted) throw ended.signal.reason;
    turns++;
    try {
      const received = () => client.stats().received;
      return await patiently({ received, quietMs, capMs }, what, work(), cut);
    } catch (error) {
      throw translated(error);
    }
  }

  function ask<T>(what: string, work: () => Promise<T>, signal: AbortSignal, capMs = 8 * quietMs): Promise<T> {
    const mine = last.then(() => turn(what, work, signal, capMs));
    last = mine.then(
      () => undefined,
      () => undefined,
    );
    return within(LONGEST_MS, what, mine, signal);
  }

  async function select(folder: string, wish: { afresh: boolean; current: boolean }): Promise<MailboxObject> {
    if (/[\r\n\0]/.test(folder)) throw noSuchFolder(folder);
    const selected = client.mailbox;
    if (selected && !wish.afresh && samePath(selected.path, folder)) {
      if (wish.current) await client.noop();
      return selected;
    }
    try {
      return await client.mailboxOpen(folder);
    } catch (error) {
      if (error instanceof Error && Reflect.get(error, "mailboxMissing") === true) throw noSuchFolder(folder);
      throw error;
    }
  }

  return {
    client,
    ended: ended.signal,
    get open() {
      return client.usable && !ended.signal.aborted;
    },
    get turns() {
      return turns;
    },
    ask,
    inFolder(folder, what, work, signal, { capMs, afresh = false, current = false } = {}) {
      return ask(what, async () => work(await select(folder, { afresh, current })), signal, capMs);
    },
    cut,
    async close() {
      const over = new Problem("connect", "The connection was closed here");
      try {
        if (client.usable) await within(2000, "Logging out", client.logout());
        ended.abort(over);
      } catch {
        // Whatever kept the server from saying goodbye, the connection is not wanted any more.
        ended.abort(over);
      }
      client.close();
    },
  };
}

/** INBOX is the one name whose case does not matter (RFC 3501 section 5.1). */
export function samePath(a: string, b: string): boolean {
  return a === b || (a.toUpperCase() === "INBOX" && b.toUpperCase() === "INBOX");
}

function noSuchFolder(folder: string): Problem {
  return new Problem("folder", `There is no folder named ${JSON.stringify(folder)}`, { retry: "never" });
}
