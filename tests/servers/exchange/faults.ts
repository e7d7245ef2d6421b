/** What goes wrong on command: for the next request of a kind, or for all of them. */

export type Fault =
  /** In the response messages of the operation, as Exchange says what fails within one. */
  | { responseCode: string; message?: string; backOffMs?: number }
  /** As a SOAP fault with status 500, as Exchange says what fails before it. */
  | { soapFault: string; message?: string; backOffMs?: number }
  /** An HTTP status without SOAP; `retryAfter` in seconds or as a date. */
  | { status: number; retryAfter?: number | string; headers?: Record<string, string>; body?: string }
  /** The connection ends before the operation is done, after it but before the answer, or after so many bytes of the answer. */
  | { cut: "before" | "after" | number }
  /** Nothing is ever answered; nothing is done. */
  | { hang: true }
  | { delayMs: number }
  | { redirect: string };

/** Which requests: an operation's name or "*", of one user or of all. */
type Rule = { operation: string; fault: Fault; left: number; user: string | undefined };

export type Faults = {
  /** For the next request of this operation ("*" for any), or the next so many. */
  once(operation: string, fault: Fault, more?: { times?: number; user?: string }): void;
  always(operation: string, fault: Fault, more?: { user?: string }): void;
  clear(operation?: string): void;
  /** How many wait for their request. */
  left(): number;
};

/** The rules, and the taking of the one that fits a request. */
export function newFaults(): { faults: Faults; take(operation: string, user: string): Fault | undefined } {
  let rules: Rule[] = [];
  return {
    faults: {
      once: (operation, fault, more = {}) =>
        void rules.push({ operation, fault, left: more.times ?? 1, user: more.user?.toLowerCase() }),
      always: (operation, fault, more = {}) =>
        void rules.push({ operation, fault, left: Number.POSITIVE_INFINITY, user: more.user?.toLowerCase() }),
      clear(operation) {
        rules = operation === undefined ? [] : rules.filter((one) => one.operation !== operation);
      },
      left: () => rules.filter(({ left }) => Number.isFinite(left)).reduce((sum, { left }) => sum + left, 0),
    },
    take(operation, user) {
      const rule = rules.find(
        (one) =>
          (one.operation === "*" || one.operation === operation) &&
          (one.user === undefined || one.user === user.toLowerCase()),
      );
      if (!rule) return undefined;
      rule.left--;
      if (rule.left <= 0) rules = rules.filter((one) => one !== rule);
      return rule.fault;
    },
  };
}
