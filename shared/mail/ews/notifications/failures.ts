/** How following a mailbox went wrong lately, one time after the other, and what is to be made of it. */
import { Problem } from "../../../contract/problem.ts";
import type { EwsSession } from "../client/session.ts";
import type { Ending } from "./stream.ts";

/** What held for so long did work: the count begins anew. */
const LASTING_MS = 60_000;
/** A subscription that is lost so often at once gets a connection of its own, whose server is its own... */
const ALONE_AFTER = 2;
/** ...and after so many times it is followed in another way. */
const HOPELESS_AFTER = 5;
/** The same for connections that do not stay open, although the server answers otherwise. */
const DEAF_TIMES = 2;

export class Mishaps {
  readonly #session: EwsSession;
  readonly #patienceMs: number;
  #lost = 0;
  #deaf = 0;
  #failed = 0;
  #failingSince = 0;

  constructor(session: EwsSession, patienceMs: number) {
    this.#session = session;
    this.#patienceMs = patienceMs;
  }

  /**
   * One more ending, of a following that took so long. Throws its Problem where that is none that passes, such as a restart of the
   * server, or has not passed in `patienceMs`.
   */
  add(ending: Ending | Problem, tookMs: number): void {
    if (tookMs >= LASTING_MS) [this.#lost, this.#failed] = [0, 0];
    this.#lost = ending === "lost" ? this.#lost + 1 : 0;
    this.#deaf = ending === "deaf" ? this.#deaf + 1 : 0;
    if (!(ending instanceof Problem)) {
      this.#failed = 0;
      return;
    }
    const now = performance.now();
    if (this.#failed++ === 0) this.#failingSince = now;
    const passing = ending.retry === "later" && this.#session.open;
    if (!passing || now - this.#failingSince >= this.#patienceMs) throw ending;
  }

  get alone(): boolean {
    return this.#lost >= ALONE_AFTER;
  }

  get hopeless(): boolean {
    return this.#lost >= HOPELESS_AFTER || this.#deaf >= DEAF_TIMES;
  }

  /** How many in a row call for a wait before the next one; a subscription may be lost once without anybody's fault. */
  get inARow(): number {
    return Math.max(this.#failed, this.#lost - 1);
  }
}
