/** The typed vocabulary of facts: what the service says happened. Log, metrics, the stream and each mailbox's history subscribe to it. */
import type { MailboxStatus } from "../contract/mailbox.ts";
import type { ProblemCode } from "../contract/problem.ts";

/** What failed, as far as it may be shown. */
type Failure = { code: ProblemCode; cause: string };

export type FactBody =
  /** The node is up: what it runs on. */
  | { kind: "service.started"; version: string; url: string; store: string; queue: string }
  | { kind: "service.stopping"; because: string }
  /** Something an administrator should change, said once at start or when it begins. */
  | { kind: "service.warned"; about: string }
  /** A part of the node failed in a way nothing else reports. */
  | { kind: "service.failed"; what: string; failure: Failure }
  | { kind: "mailbox.registered"; mailbox: string; address: string }
  | { kind: "mailbox.changed"; mailbox: string; revision: number }
  | { kind: "mailbox.removed"; mailbox: string }
  | { kind: "mailbox.resync"; mailbox: string; since: string; messages: number }
  /** The subscription's state changed. */
  | { kind: "mailbox.status"; mailbox: string; status: MailboxStatus; failure?: Failure; retryAt?: string }
  /** Logged in and compared with the server; `ms` from the first packet to there. */
  | { kind: "mailbox.connected"; mailbox: string; push: boolean; ms: number }
  /** The subscription's connection failed; it is opened again. */
  | { kind: "mailbox.disconnected"; mailbox: string; failure: Failure; retryAt: string }
  /** The server renumbered a folder (a new UIDVALIDITY); it is read again without repeating what was delivered. */
  | { kind: "mailbox.reset"; mailbox: string; folder: string; epoch: string }
  /**
   * A run of a polled mailbox took longer than its interval; `missed` runs that fell due meanwhile are one. `finished` is false when
   * the run ended with its interval, because it has no process lock: what was left is for the next.
   */
  | { kind: "mailbox.overran"; mailbox: string; ms: number; missed: number; finished: boolean; locked: boolean }
  /** New messages were seen and handed over. */
  | { kind: "mail.arrived"; mailbox: string; folder: string; count: number }
  /** The endpoint accepted a message; `ms` since the mail server received it, `attempts` including this one. */
  | {
      kind: "mail.delivered";
      mailbox: string;
      delivery: string;
      folder: string;
      uid: number;
      bytes: number;
      ms: number;
      attempts: number;
    }
  /** An attempt failed; the message is spooled and tried again. */
  | {
      kind: "mail.retrying";
      mailbox: string;
      delivery: string;
      endpoint: string;
      attempts: number;
      reason: string;
      retryAt: string;
    }
  /** Nothing more is tried; the message is kept whole for a replay. */
  | { kind: "mail.parked"; mailbox: string; delivery: string; endpoint: string; attempts: number; reason: string }
  /** The same content was delivered before from another place. */
  | { kind: "mail.duplicate"; mailbox: string; folder: string; uid: number }
  /** Deleted or moved by somebody before it could be fetched. */
  | { kind: "mail.gone"; mailbox: string; folder: string; uid: number }
  /** Delivered with something left out. */
  | { kind: "mail.limited"; mailbox: string; delivery: string; limits: string[] }
  /** A message could not be downloaded or handled; it is tried again. */
  | { kind: "mail.unfetched"; mailbox: string; folder: string; uid: number; failure: Failure }
  /** Not to be delivered, for the reason given (a draft, for a CRM). */
  | { kind: "mail.skipped"; mailbox: string; folder: string; uid: number; reason: string }
  /** Left out by the mailbox's own filters; `rule` says which. */
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
  /** Marked, moved or deleted on the server after the endpoint accepted it. */
  | { kind: "mail.tidied"; mailbox: string; folder: string; count: number }
  /** A request to send was taken up; `sendAt` is when it goes out. */
  | { kind: "send.queued"; mailbox: string; sending: string; recipients: number; bytes: number; sendAt: string }
  /** The mail server took the message for every recipient; `ms` since it was to be sent. */
  | {
      kind: "send.sent";
      mailbox: string;
      sending: string;
      attempts: number;
      recipients: number;
      bytes: number;
      ms: number;
    }
  /** An attempt failed before anything was handed over, or for some recipients; those are tried again. */
  | { kind: "send.retrying"; mailbox: string; sending: string; attempts: number; reason: string; retryAt: string }
  /** The mail server refused it for good, or it was given up, for at least one recipient. */
  | { kind: "send.failed"; mailbox: string; sending: string; attempts: number; reason: string }
  /** Handed over, and the answer was lost: it may have arrived, and is not sent again. */
  | { kind: "send.unknown"; mailbox: string; sending: string; attempts: number; reason: string }
  /** A message that was taken came back for this recipient. */
  | { kind: "send.bounced"; mailbox: string; sending: string; recipient: string; reason: string }
  /** An automatic reply to a message that was sent arrived. */
  | { kind: "send.answered"; mailbox: string; sending: string; from: string }
  /** The copy in the Sent folder was given up; the message itself was sent. */
  | { kind: "send.uncopied"; mailbox: string; sending: string; failure: Failure }
  /** The endpoint did not take the news of a sending; given up when `retryAt` is null. */
  | { kind: "send.untold"; mailbox: string; sending: string; event: string; reason: string; retryAt: string | null }
  /** The endpoint failed so often that it is left alone until `until`. */
  | { kind: "endpoint.rested"; endpoint: string; until: string; failures: number }
  | { kind: "endpoint.recovered"; endpoint: string; waiting: number }
  /** The endpoint answered 410: the mailbox delivers nothing until it has a new one. */
  | { kind: "endpoint.gone"; mailbox: string; endpoint: string }
  /** A task failed and is tried again at `retryAt`, or given up when that is null. */
  | { kind: "task.failed"; task: string; mailbox: string; attempt: number; failure: Failure; retryAt: string | null }
  /** The broker cannot take tasks; `failure` says why. */
  | { kind: "queue.away"; failure: Failure }
  /** The broker takes tasks again. */
  | { kind: "queue.back"; ms: number }
  /** The endpoint heard how a mailbox is doing, or was asked for a new token; `status` is its HTTP status, null when none came. */
  | {
      kind: "endpoint.told";
      mailbox: string;
      endpoint: string;
      what: "available" | "unavailable" | "token";
      status: number | null;
    }
  /** A CRM's request was understood by its shape, or a part of it by a guess: the tables in `api/routes/creatio/` lack something. */
  | { kind: "listeners.guessed"; method: string; path: string; guess: string }
  /** LISTENERS_RECORD: the shape of a CRM's request, types instead of values. */
  | { kind: "listeners.recorded"; method: string; path: string; headers: string[]; body: unknown }
  /** An HTTP request was answered. */
  | { kind: "http.answered"; method: string; route: string; status: number; ms: number };

/** A fact with its time (ISO 8601 UTC). */
export type Fact = { at: string } & FactBody;

/** Says that something happened. Never throws and never waits. */
export type Emit = (fact: FactBody) => void;

export type Facts = { emit: Emit; subscribe: (listener: (fact: Fact) => void) => () => void };

/** A stream of facts for this process. A listener that throws is removed and reported by a `service.failed` fact. */
export function factStream(): Facts {
  const listeners = new Set<(fact: Fact) => void>();
  const emit: Emit = (body) => {
    const fact: Fact = { at: new Date().toISOString(), ...body };
    for (const listener of listeners) {
      try {
        listener(fact);
      } catch (error) {
        listeners.delete(listener);
        emit({
          kind: "service.failed",
          what: "a listener of facts",
          failure: { code: "internal", cause: String(error) },
        });
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
