/** Counts the recent failures of a mailbox's notifications and decides what follows from them. */
import { Problem } from "../../../contract/problem.ts";
import type { EwsSession } from "../client/session.ts";
import type { StreamEnd } from "./stream.ts";

/** Notifications that worked for this long count as good: the count starts anew. */
const STABLE_MS = 60_000;
/** After so many losses in a row a subscription gets its own connection, which goes to its own server... */
const OWN_CONNECTION_AFTER = 2;
/** ...and after so many losses it uses another way. */
const GIVE_UP_AFTER = 5;
/** The same for connections that do not stay open although the server otherwise answers. */
const GIVE_UP_AFTER_SILENT = 2;

export class FailureCounter {
  readonly #session: EwsSession;
  readonly #patienceMs: number;
  #lost = 0;
  #silent = 0;
  #failed = 0;
  #failingSince = 0;

  constructor(session: EwsSession, patienceMs: number) {
    this.#session = session;
    this.#patienceMs = patienceMs;
  }

  /**
   * Counts one more end, after `tookMs`. Throws the ending's Problem if it will not pass by itself (as a restart of the
   * server does), or has not passed within `patienceMs`.
   */
  add(ending: StreamEnd | Problem, tookMs: number): void {
    if (tookMs >= STABLE_MS) [this.#lost, this.#failed] = [0, 0];
    this.#lost = ending === "lost" ? this.#lost + 1 : 0;
    this.#silent = ending === "stale" ? this.#silent + 1 : 0;
    if (!(ending instanceof Problem)) {
      this.#failed = 0;
      return;
    }
    const now = performance.now();
    if (this.#failed++ === 0) this.#failingSince = now;
    const passing = ending.retry === "later" && this.#session.open;
    if (!passing || now - this.#failingSince >= this.#patienceMs) throw ending;
  }

  get needsOwnConnection(): boolean {
    return this.#lost >= OWN_CONNECTION_AFTER;
  }

  get shouldGiveUp(): boolean {
    return this.#lost >= GIVE_UP_AFTER || this.#silent >= GIVE_UP_AFTER_SILENT;
  }

  /**
   * The number of failures in a row that need a wait before the next attempt. One lost subscription alone is normal.
   */
  get consecutive(): number {
    return Math.max(this.#failed, this.#lost - 1);
  }
}
