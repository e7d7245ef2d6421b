/** What goes wrong on command: for the next request of an operation, or for all of them. */

export type Fault =
  /** An error in Graph's form. `retryAfter` is the header as it is: "2.128", or an HTTP date. */
  | {
      status: number;
      code: string;
      message?: string;
      /** A code within innerError, which is the more exact one. */
      inner?: string;
      retryAfter?: string;
      headers?: Record<string, string>;
    }
  /** An HTTP status with this body, as proxies and gateways answer. */
  | { status: number; body: string; retryAfter?: string; headers?: Record<string, string> }
  /** Of the login server: its error by number, with another status if wanted. */
  | { aadsts: number; status?: number; retryAfter?: string }
  /** The connection ends before the operation is done, after it but before the answer, or after so many bytes of the answer. */
  | { cut: "before" | "after" | number }
  /** The operation is done, and the answer is this one in place of its own. */
  | { after: { status: number; body: string } }
  /** Nothing is ever answered; nothing is done. */
  | { hang: true }
  /** The answer comes so much later. */
  | { delayMs: number }
  /** The body of the answer comes in pieces of so many bytes, with a pause after each. */
  | { pieceBytes: number; everyMs: number };

/** Which requests: of one user (a user principal name) or of all, about one folder (as the request names it) or about any. */
type About = { user?: string | undefined; folder?: string | undefined };
/** The operation's name, or "*". */
type Rule = About & { operation: string; fault: Fault; left: number };

export type Faults = {
  /** For the next request of this operation ("*" for any), or the next so many. */
  once(operation: string, fault: Fault, more?: About & { times?: number }): void;
  always(operation: string, fault: Fault, more?: About): void;
  clear(operation?: string): void;
  /** How many wait for their request. */
  left(): number;
};

export type Take = (operation: string, user: string, folder?: string) => Fault | undefined;

/** The rules, and the taking of the one that fits a request. */
export function newFaults(): { faults: Faults; take: Take } {
  let rules: Rule[] = [];
  const add = (operation: string, fault: Fault, left: number, { user, folder }: About) =>
    void rules.push({ operation, fault, left, user: user?.toLowerCase(), folder });
  return {
    faults: {
      once: (operation, fault, more = {}) => add(operation, fault, more.times ?? 1, more),
      always: (operation, fault, more = {}) => add(operation, fault, Number.POSITIVE_INFINITY, more),
      clear(operation) {
        rules = operation === undefined ? [] : rules.filter((one) => one.operation !== operation);
      },
      left: () => rules.filter(({ left }) => Number.isFinite(left)).reduce((sum, { left }) => sum + left, 0),
    },
    take(operation, user, folder) {
      const rule = rules.find(
        (one) =>
          (one.operation === "*" || one.operation === operation) &&
          (one.user === undefined || one.user === user.toLowerCase()) &&
          (one.folder === undefined || one.folder === folder),
      );
      if (!rule) return undefined;
      rule.left--;
      if (rule.left <= 0) rules = rules.filter((one) => one !== rule);
      return rule.fault;
    },
  };
}
