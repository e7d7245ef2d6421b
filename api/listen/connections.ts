/**
 * What is known of the connections of this node's subscriptions: compared in memory each time a server answers, and written to the
 * store only when it changed.
 */
import { setImmediate } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { wakeup } from "../../shared/concurrency/wakeup.ts";
import type { ConnectionFacts, ServerFacts, TokenFacts } from "../../shared/contract/learned.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Connections } from "../../shared/store/measured/connections.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { clock, sleep } from "../../shared/time.ts";

export interface ConnectionBoard {
  /** Notes what the server of a mailbox said of itself. Does nothing if it is known. */
  note(mailbox: string, server: ServerFacts): void;
  /** The subscription has ended here. */
  forget(mailbox: string): void;
  /** Writes what changed until the signal aborts, and once more at the end. A failed write is tried again with the next one. */
  run(signal: AbortSignal): Promise<void>;
}

type ConnectionBoardDeps = {
  connections: Pick<Connections, "save">;
  /** When the token of a mailbox's login ends. */
  tokenEndOf: (mailbox: string) => TokenFacts | undefined;
  emit: Emit;
};

/** Changes of this time are written together. */
const WRITE_AFTER_MS = 1_000;
const RETRY_MS = 10_000;
const IDLE_MS = 600_000;
/** Mailboxes that are written in one go. */
const BATCH = 500;

export function connectionBoard({ connections, tokenEndOf, emit }: ConnectionBoardDeps): ConnectionBoard {
  /** What was noted last of each mailbox. */
  const known = new Map<string, { server: ServerFacts; token: TokenFacts | null }>();
  const waiting = new Map<string, ConnectionFacts>();
  const noted = wakeup();
  let failing = false;

  /** False if the store does not take it. */
  const write = async (): Promise<boolean> => {
    const batch = [...waiting].slice(0, BATCH);
    if (batch.length === 0) return true;
    for (const [mailbox] of batch) waiting.delete(mailbox);
    try {
      await connections.save(batch.map(([mailbox, facts]) => ({ mailbox, facts })));
      failing = false;
      return true;
    } catch (error) {
      // What was noted meanwhile is newer.
      for (const [mailbox, facts] of batch) if (!waiting.has(mailbox)) waiting.set(mailbox, facts);
      const { code, message } = asProblem(error);
      const what = "writing what is known of connections";
      if (!failing) emit({ kind: "service.failed", what, failure: { code, cause: message } });
      failing = true;
      return false;
    }
  };

  return {
    note(mailbox, server) {
      const facts = { server, token: tokenEndOf(mailbox) ?? null };
      if (isDeepStrictEqual(known.get(mailbox), facts)) return;
      known.set(mailbox, facts);
      waiting.set(mailbox, { ...server, token: facts.token, since: new Date(clock.now()).toISOString() });
      noted.trigger();
    },
    forget(mailbox) {
      known.delete(mailbox);
    },
    async run(signal) {
      while (!signal.aborted) {
        if (waiting.size === 0) await noted.wait(IDLE_MS, signal);
        await sleep(failing ? RETRY_MS : WRITE_AFTER_MS, signal);
        // With thousands of mailboxes at the start, others get their turn in between.
        while ((await write()) && waiting.size > 0) await setImmediate();
      }
    },
  };
}
