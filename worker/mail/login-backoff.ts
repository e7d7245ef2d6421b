/** Mailboxes whose server refused a worker's login. They get a pause, so that tasks in a row do not lock an account. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem, type Problem } from "../../shared/contract/problem.ts";
import type { Backoff } from "../../shared/time.ts";
import { clock } from "../../shared/time.ts";

export interface LoginBackoff {
  /**
   * Runs work that may log in. After a refused login it throws the same problem without asking the server, until the
   * wait of the login schedule has passed or the mailbox has changed. After the third refusal that wait is a day.
   */
  guard<T>(mailbox: Mailbox, work: () => Promise<T>): Promise<T>;
}

type RefusedLogin = { revision: number; times: number; until: number; problem: Problem };

const MAX_REFUSED_LOGINS = 3;
const DAY_MS = 24 * 3_600_000;

export function loginBackoff(backoff: Pick<Backoff, "login">): LoginBackoff {
  const refusedLogins = new Map<string, RefusedLogin>();
  return {
    async guard(mailbox, work) {
      const previous = refusedLogins.get(mailbox.id);
      const current = previous?.revision === mailbox.revision ? previous : undefined;
      if (current && clock.now() < current.until) throw current.problem;
      try {
        const done = await work();
        refusedLogins.delete(mailbox.id);
        return done;
      } catch (error) {
        const problem = asProblem(error);
        if (isCountedHere(mailbox, problem)) {
          const times = (current?.times ?? 0) + 1;
          const until = clock.now() + (times >= MAX_REFUSED_LOGINS ? DAY_MS : backoff.login(times));
          refusedLogins.set(mailbox.id, { revision: mailbox.revision, times, until, problem });
        }
        throw error;
      }
    },
  };
}

/** Refused passwords are counted for all nodes, where passwords are sent: `shared/mail/net/login-gate.ts`. */
function isCountedHere({ receive }: Mailbox, { code }: Problem): boolean {
  return code === "auth_method" || (code === "auth" && !("password" in receive.auth));
}
