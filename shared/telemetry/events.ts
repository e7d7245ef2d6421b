/**
 * All kinds of facts: what the service reports as events. The log, the metrics, the event stream and each mailbox's
 * history subscribe to facts.
 */
import type { MailboxStatus } from "../contract/mailbox.ts";
import type { ProblemCode } from "../contract/problem.ts";

/** What failed, without secrets. */
type Failure = { code: ProblemCode; cause: string };

export type FactBody =
  /** The node has started with this store and this queue. */
  | { kind: "service.started"; version: string; url: string; store: string; queue: string }
  | { kind: "service.stopping"; because: string }
  /** A warning for the administrator, reported once at the start or when its cause begins. */
  | { kind: "service.warned"; about: string }
  /** A part of the node failed, and no other fact reports it. */
  | { kind: "service.failed"; what: string; failure: Failure }
  /** A person paused the deliveries to an endpoint, or resumed them; `waiting` go out at once. */
  | { kind: "endpoint.held"; endpoint: string; by: string }
  | { kind: "endpoint.released"; endpoint: string; waiting: number }
  | { kind: "mailbox.registered"; mailbox: string; address: string }
  | { kind: "mailbox.changed"; mailbox: string; revision: number }
  | { kind: "mailbox.removed"; mailbox: string }
  /** A person did not connect a mailbox. `cause` says more in words. */
  | { kind: "consent.refused"; application: string; reason: string; cause?: string }
  | { kind: "mailbox.resync"; mailbox: string; since: string; messages: number }
  /** The subscription's state changed. */
  | { kind: "mailbox.status"; mailbox: string; status: MailboxStatus; failure?: Failure; retryAt?: string }
  /** The subscription logged in and compared the folders with their cursors; `ms` is the time for both. */
  | { kind: "mailbox.connected"; mailbox: string; push: boolean; ms: number }
  /**
   * The server reports new mail late or not at all. So the folder is also polled every FOLDER_POLL_SECONDS.
   */
  | { kind: "mailbox.slow_push"; mailbox: string; folder: string }
  /** Microsoft Graph does not send notifications for this mailbox. It is polled. */
  | { kind: "mailbox.push_refused"; mailbox: string; failure: Failure }
  /** The subscription's connection failed; it connects again at `retryAt`. */
  | { kind: "mailbox.disconnected"; mailbox: string; failure: Failure; retryAt: string }
  /**
   * The server renumbered a folder (a new UIDVALIDITY). The folder is read again, and delivered messages are not
   * repeated.
   */
  | { kind: "mailbox.reset"; mailbox: string; folder: string; epoch: string }
  /**
   * A run of a polled mailbox took longer than its interval. `missed` runs that were due meanwhile become one.
   * `finished` is false when the run ended with its interval, because the mailbox has no process lock. The next run
   * continues it.
   */
  | {
      kind: "mailbox.poll_overran";
      mailbox: string;
      ms: number;
      missed: number;
      finished: boolean;
      processLock: boolean;
    }
  /** New messages were found and handed over. */
  | { kind: "mail.arrived"; mailbox: string; folder: string; count: number }
  /**
   * The endpoint accepted a message. `ms` is the time since the mail server received it, `seenMs` the time since this
   * service saw it, if that is known; `attempts` includes this one.
   */
  | {
      kind: "mail.delivered";
      mailbox: string;
      delivery: string;
      folder: string;
      uid: number;
      bytes: number;
      ms: number;
      seenMs?: number;
      attempts: number;
    }
  /** An attempt failed. The message is in the spool and is tried again. */
  | {
      kind: "mail.retrying";
      mailbox: string;
      delivery: string;
      endpoint: string;
      attempts: number;
      reason: string;
      retryAt: string;
    }
  /** The delivery is parked: nothing more is tried, and the raw message is kept for a replay. */
  | { kind: "mail.parked"; mailbox: string; delivery: string; endpoint: string; attempts: number; reason: string }
  /** The same content was delivered before, from another place. */
  | { kind: "mail.duplicate"; mailbox: string; folder: string; uid: number }
  /** Somebody deleted or moved the message before it could be downloaded. The server said so several times. */
  | { kind: "mail.gone"; mailbox: string; folder: string; uid: number }
  /** The server renumbered the folder before these messages were downloaded. They are found again by their new uids. */
  | { kind: "mail.renumbered"; mailbox: string; folder: string; count: number }
  /** A message was delivered incompletely; `limits` says what is missing. */
  | { kind: "mail.limited"; mailbox: string; delivery: string; limits: string[] }
  /** A message could not be downloaded or handled. It is tried again. */
  | { kind: "mail.download_failed"; mailbox: string; folder: string; uid: number; failure: Failure }
  /** The message is not for the endpoint, for the given reason (a draft, for a CRM). */
  | { kind: "mail.skipped"; mailbox: string; folder: string; uid: number; reason: string }
  /** The mailbox's own filters left the message out; `rule` says which. */
  | {
      kind: "mail.filtered";
      mailbox: string;
      folder: string;
      uid: number;
      bytes: number;
      receivedAt: string;
      messageId: string | null;
      rule: string;
    }
  /** The endpoint accepted the message, but it is not marked, moved or deleted on the mail server; `reason` says why. */
  | { kind: "mail.kept"; mailbox: string; folder: string; uid: number; reason: string }
  /** Messages were marked, moved or deleted on the server after the endpoint accepted them. */
  | { kind: "mail.after_delivery_done"; mailbox: string; folder: string; count: number }
  /** A request of this actor to send was accepted; `sendAt` is when the message goes out. */
  | {
      kind: "send.queued";
      mailbox: string;
      actor: { id: string; name: string };
      sending: string;
      recipients: number;
      bytes: number;
      sendAt: string;
    }
  /** The mail server accepted the message for every recipient; `ms` is the time since `sendAt`. */
  | {
      kind: "send.sent";
      mailbox: string;
      sending: string;
      attempts: number;
      recipients: number;
      bytes: number;
      ms: number;
    }
  /** An attempt failed before the message was handed over, or for some recipients. Those are tried again. */
  | { kind: "send.retrying"; mailbox: string; sending: string; attempts: number; reason: string; retryAt: string }
  /** For at least one recipient the mail server refused the message for good, or the attempts ended. */
  | { kind: "send.failed"; mailbox: string; sending: string; attempts: number; reason: string }
  /** The message was handed over and the answer was lost. It may have arrived, and it is not sent again. */
  | { kind: "send.unknown"; mailbox: string; sending: string; attempts: number; reason: string }
  /** An accepted message was returned for this recipient. */
  | { kind: "send.bounced"; mailbox: string; sending: string; recipient: string; reason: string }
  /** A read receipt for a sent message arrived. */
  | { kind: "send.receipt_received"; mailbox: string; sending: string; recipient: string; disposition: string }
  /** An automatic reply to a sent message arrived. */
  | { kind: "send.auto_replied"; mailbox: string; sending: string; from: string }
  /** The copy in the Sent folder failed for good. The message itself was sent. */
  | { kind: "send.copy_failed"; mailbox: string; sending: string; failure: Failure }
  /** The endpoint did not accept the webhook about a sending. Without `retryAt` it is not tried again. */
  | {
      kind: "send.notify_failed";
      mailbox: string;
      sending: string;
      event: string;
      reason: string;
      retryAt: string | null;
    }
  /** The endpoint failed so often that the circuit breaker pauses it until `until`. */
  | { kind: "endpoint.paused"; endpoint: string; until: string; failures: number }
  | { kind: "endpoint.recovered"; endpoint: string; waiting: number }
  /** The endpoint answered 410. The mailbox delivers nothing until it has a new one. */
  | { kind: "endpoint.gone"; mailbox: string; endpoint: string }
  /** A task failed. It is tried again at `retryAt`; without `retryAt` it is parked. */
  | { kind: "task.failed"; task: string; mailbox: string; attempt: number; failure: Failure; retryAt: string | null }
  /** The broker cannot take tasks; `failure` says why. */
  | { kind: "queue.connection_failed"; failure: Failure }
  /** The broker takes tasks again; `ms` is how long it did not. */
  | { kind: "queue.recovered"; ms: number }
  /**
   * The CRM got a callback about a mailbox's state, or was asked for a new token. `status` is its HTTP status, null
   * without an answer.
   */
  | {
      kind: "endpoint.notified";
      mailbox: string;
      endpoint: string;
      what: "available" | "unavailable" | "token";
      status: number | null;
    }
  /**
   * The meaning of a CRM's request, or of a part of it, was guessed: the tables in `api/routes/creatio/` lack
   * something.
   */
  | { kind: "creatio.request_guessed"; method: string; path: string; guess: string }
  /** CRM_RECORD: the shape of a CRM's request, with types instead of values. */
  | { kind: "creatio.request_recorded"; method: string; path: string; headers: string[]; body: unknown }
  /**
   * A caller sent a wrong token or wrong credentials. `address` is its IPv4 address or its IPv6 network. It may be wrong
   * `triesLeft` times more.
   */
  | { kind: "access.refused"; address: string; triesLeft: number }
  /** A caller was wrong too often. It may be wrong ten times a minute from now on; everything else is answered by 429. */
  | { kind: "access.limited"; address: string }
  /**
   * A caller of the API changed something. `actor` has the id and the name of its token, `route` is the template of the
   * path, `target` the id in it. `changed` has names of fields and no values.
   */
  | {
      kind: "api.changed";
      actor: { id: string; name: string };
      method: string;
      route: string;
      target: string | null;
      mailbox?: string;
      changed: string[];
      status: number | null;
    }
  /** A cause of trouble began, or ended. `place` is the server or the endpoint that it is about. */
  | { kind: "alarm.began" | "alarm.ended"; code: string; place: string; count: number; cause: string }
  /** A message about an alarm was not taken. Without `retryAt` it is not sent again. */
  | { kind: "alarm.not_told"; type: string; reason: string; retryAt: string | null }
  /** An HTTP request was answered. */
  | { kind: "http.answered"; method: string; route: string; status: number; ms: number };

/** A fact with its time (ISO 8601 UTC). */
export type Fact = { at: string } & FactBody;

/** Reports a fact. Never throws and never waits. */
export type Emit = (fact: FactBody) => void;

export type Facts = { emit: Emit; subscribe: (listener: (fact: Fact) => void) => () => void };

type Listener = (fact: Fact) => void;

/** How often a subscriber that throws is reported. It may throw at every fact, even at the report itself. */
const REPORT_INTERVAL_MS = 60_000;

/**
 * Creates a stream of facts for this process. If a subscriber throws, a `service.failed` fact reports it, and it still
 * gets the next fact.
 */
export function factStream(): Facts {
  const listeners = new Set<Listener>();
  const reportedAt = new WeakMap<Listener, number>();
  const report = (listener: Listener, error: unknown) => {
    const now = performance.now();
    if (now - (reportedAt.get(listener) ?? -Infinity) < REPORT_INTERVAL_MS) return;
    reportedAt.set(listener, now);
    const failure = { code: "internal", cause: String(error) } as const;
    emit({ kind: "service.failed", what: "a subscriber of facts", failure });
  };
  const emit: Emit = (body) => {
    const fact: Fact = { at: new Date().toISOString(), ...body };
    for (const listener of listeners) {
      try {
        listener(fact);
      } catch (error) {
        report(listener, error);
      }
    }
  };
  return {
    emit,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
