/** Mailboxes whose server refused a worker's login: they are left alone, so that tasks in a row do not lock an account. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import type { Backoff } from "../../shared/time.ts";

export interface Refusals {
  /**
   * Runs work that may log in. After a refused login it throws the same problem without asking the server, until the waits of the
   * login schedule are over or the mailbox has changed; after the third one that is a day.
   */
  guard<T>(mailbox: Mailbox, work: () => Promise<T>): Promise<T>;
}

type Refused = { revision: number; times: number; until: number; problem: Problem };

const LOGINS = 3;
const DAY_MS = 24 * 3_600_000;

export function refusals(backoff: Pick<Backoff, "login">): Refusals {
  const refused = new Map<string, Refused>();
  return {
    async guard(mailbox, work) {
      const before = refused.get(mailbox.id);
      const known = before?.revision === mailbox.revision ? before : undefined;
      if (known && Date.now() < known.until) throw known.problem;
      try {
        const done = await work();
        refused.delete(mailbox.id);
        return done;
      } catch (error) {
        const problem = asProblem(error);
        if (problem.code === "auth" || problem.code === "auth_method") {
          const times = (known?.times ?? 0) + 1;
          const until = Date.now() + (times >= LOGINS ? DAY_MS : backoff.login(times));
          refused.set(mailbox.id, { revision: mailbox.revision, times, until, problem });
        }
        throw error;
      }
    },
  };
}
