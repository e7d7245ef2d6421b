/** The limits that Graph has for one application on one mailbox: requests at once, and requests in ten minutes. */
import { GraphError } from "./answers.ts";

export type Limits = {
  atOnce: number;
  requests: number;
  windowMs: number;
  /** What Retry-After says: seconds with a fraction, whole seconds, a date, or nothing. */
  retryAfter: "fraction" | "seconds" | "date" | "none";
  retryAfterMs: number;
  /** Of one request with a message or a file. */
  requestBytes: number;
  /** Of a whole message that is sent. */
  messageBytes: number;
  /** Of one application to one mailbox in five minutes. */
  uploadBytes: number;
  sendsPerMinute: number;
  /** Of one application in 20 seconds: lists of subscriptions, and changes of them. */
  subscriptionReads: number;
  subscriptionWrites: number;
};

export const LIMITS: Limits = {
  atOnce: 4,
  requests: 10_000,
  windowMs: 600_000,
  retryAfter: "fraction",
  retryAfterMs: 2128,
  requestBytes: 4 * 1024 * 1024,
  messageBytes: 150 * 1024 * 1024,
  uploadBytes: 150 * 1024 * 1024,
  sendsPerMinute: 30,
  subscriptionReads: 25,
  subscriptionWrites: 500,
};

export type Gate = {
  limits: Limits;
  /**
   * Lets a request in, or throws 429. Whoever is let in calls what it returns when the answer is out.
   * `atOnce` is how many were in, with this one.
   */
  enter(clientId: string, mailbox: string): { atOnce: number; leave: () => void };
  /** Takes so many uploaded bytes, or throws 429. */
  upload(clientId: string, mailbox: string, bytes: number): void;
  /** Takes one message that a mailbox sends, or throws 429. */
  send(mailbox: string): void;
  /** Takes one request about subscriptions, or throws 429. */
  subscribe(clientId: string, kind: "read" | "write"): void;
  /** The most requests that were in at once, of one application on one mailbox, refused ones among them. */
  most(): number;
};

type Use = { inside: number; times: number[]; first: number };

export function newGate(): Gate {
  const uses = new Map<string, Use>();
  const limits = { ...LIMITS };
  const uploads = new Map<string, { at: number; amount: number }[]>();
  const sends = new Map<string, { at: number; amount: number }[]>();
  const subscribing = new Map<string, { at: number; amount: number }[]>();
  let most = 0;
  return {
    limits,
    most: () => most,
    subscribe(clientId, kind) {
      const used = recent(subscribing, `${clientId} ${kind}`, 20_000);
      const limit = kind === "read" ? limits.subscriptionReads : limits.subscriptionWrites;
      if (used.sum >= limit)
        throw new GraphError({ status: 429, code: "TooManyRequests", message: "", headers: retryAfter(limits) });
      used.add(1);
    },
    upload(clientId, mailbox, bytes) {
      const used = recent(uploads, `${clientId} ${mailbox}`, 300_000);
      if (used.sum + bytes > limits.uploadBytes)
        throw throttled(limits, "Application is over its IncomingBytes limit.");
      used.add(bytes);
    },
    send(mailbox) {
      const used = recent(sends, mailbox, 60_000);
      if (used.sum >= limits.sendsPerMinute) {
        const message = "Message submission limit exceeded.";
        throw new GraphError({ status: 429, code: "ErrorExceededMessageLimit", message, headers: retryAfter(limits) });
      }
      used.add(1);
    },
    enter(clientId, mailbox) {
      const key = `${clientId} ${mailbox}`;
      const use = uses.get(key) ?? { inside: 0, times: [], first: 0 };
      uses.set(key, use);
      const now = Date.now();
      while ((use.times[use.first] ?? now) < now - limits.windowMs) use.first++;
      if (use.first > 1000) {
        use.times.splice(0, use.first);
        use.first = 0;
      }
      use.times.push(now);
      most = Math.max(most, use.inside + 1);
      if (use.times.length - use.first > limits.requests)
        throw throttled(limits, "Application is over its request limit.");
      if (use.inside >= limits.atOnce) throw throttled(limits, "Application is over its MailboxConcurrency limit.");
      const atOnce = ++use.inside;
      let left = false;
      return {
        atOnce,
        leave() {
          if (!left) use.inside--;
          left = true;
        },
      };
    },
  };
}

/** What was used within the last so many milliseconds. */
function recent(uses: Map<string, { at: number; amount: number }[]>, key: string, windowMs: number) {
  const now = Date.now();
  const list = (uses.get(key) ?? []).filter(({ at }) => at > now - windowMs);
  uses.set(key, list);
  return {
    sum: list.reduce((sum, { amount }) => sum + amount, 0),
    add: (amount: number) => void list.push({ at: now, amount }),
  };
}

function throttled(limits: Limits, message: string): GraphError {
  const headers = retryAfter(limits);
  return new GraphError({ status: 429, code: "ApplicationThrottled", message, headers });
}

function retryAfter({ retryAfter: form, retryAfterMs }: Limits): Record<string, string> {
  if (form === "none") return {};
  if (form === "date") return { "Retry-After": new Date(Date.now() + retryAfterMs).toUTCString() };
  const seconds = retryAfterMs / 1000;
  return { "Retry-After": form === "seconds" ? String(Math.ceil(seconds)) : String(seconds) };
}
