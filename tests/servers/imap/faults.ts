/** Faults on command: what the in-process IMAP server does wrong, switchable while it runs. */
import { setTimeout as sleep } from "node:timers/promises";

/** What happens instead of a command's normal answer; one kind at a time, `delayMs` and `untagged` go with each. */
export type Fault = {
  /** The tagged answer: "NO [ALERT] Too many simultaneous connections. (Failure)". */
  reply?: string;
  /** Lines to send before, each with its "* ". */
  untagged?: string;
  /** Says "* BYE …" and closes. */
  bye?: string;
  /** Closes the connection without a word. */
  drop?: boolean;
  /** Never answers. */
  hang?: boolean;
  /** Waits before anything else happens; alone it only slows the command down. */
  delayMs?: number;
  /** Performs the command, but cuts the connection after so many bytes of its answer; 0 loses the whole answer. */
  cutAfter?: number;
  /** How often, then the fault is over; without it until `clear()`. */
  times?: number;
  /** Only for this user. */
  user?: string;
};

type Rule = { command: string; fault: Fault; left: number };

/** The faults of one server; changes take effect with the next command, on connections that are open as well. */
export class Faults {
  /** Sent instead of the greeting, without "* ": "BYE Too many connections", "PREAUTH hello". BYE also closes. */
  greeting: string | undefined;
  /** Closes every new connection at once, before the greeting. */
  dropAfterConnect = false;
  /**
   * Accepts IDLE, but never tells about new, changed or removed messages: with "idle" not during IDLE, with true
   * never at all, so that only SELECT and STATUS show what there is.
   */
  deaf: boolean | "idle" = false;
  /**
   * Lists messages, but does not give their content: `silent` says nothing more on the connection that asks, `trickle` sends it a byte
   * at a time.
   */
  withholdContent: "silent" | "trickle" | undefined;
  /** Bytes to send in plain text together with the OK of STARTTLS, as an attacker on the line would. */
  sendAfterStartTls: string | undefined;
  readonly #rules: Rule[] = [];
  readonly #rejected = new Set<number>();

  /** Applies `fault` to this command ("LOGIN", "IDLE"; "FETCH" is UID FETCH too; "*" is any); returns what ends it. */
  onCommand(command: string, fault: Fault): () => void {
    const rule = { command: command.toUpperCase(), fault, left: fault.times ?? Infinity };
    this.#rules.push(rule);
    return () => {
      rule.left = 0;
    };
  }

  /** From now on FETCH of this UID's content answers NO, in every folder; its flags can still be fetched. */
  rejectMessage(uid: number): void {
    this.#rejected.add(uid);
  }

  rejects(uid: number): boolean {
    return this.#rejected.has(uid);
  }

  /** Behaves again from now on. */
  clear(): void {
    this.greeting = undefined;
    this.dropAfterConnect = false;
    this.deaf = false;
    this.sendAfterStartTls = undefined;
    this.withholdContent = undefined;
    this.#rules.length = 0;
    this.#rejected.clear();
  }

  /** The fault for this command, counted as used; waits out its delay. */
  async take(command: string, user: string | undefined): Promise<Fault | undefined> {
    const bare = command.replace(/^UID /, "");
    const rule = this.#rules.find(
      (one) => one.left > 0 && [command, bare, "*"].includes(one.command) && (one.fault.user ?? user) === user,
    );
    if (!rule) return undefined;
    rule.left--;
    if (rule.fault.delayMs) await sleep(rule.fault.delayMs);
    return rule.fault;
  }
}
