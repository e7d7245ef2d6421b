/** The books of a run: what was sent, what the endpoint got, and whether the two agree. */
import type { EndpointRequest } from "../servers/endpoint.ts";
import { message } from "../servers/mail.ts";
import { subjectOf } from "../stories/scene.ts";
import type { ChaosMailbox, World } from "./world.ts";

export type Result = {
  sent: number;
  delivered: number;
  parked: number;
  /** Messages that were accepted under more than one delivery id, or asked to be. */
  duplicates: number;
  /** Messages accepted once more under the same id. */
  repeats: number;
  missing: string[];
  medianMs: number;
  worstMs: number;
};

export type Book = {
  /** Sends one message into a mailbox, whatever else happens. */
  send(mailbox: ChaosMailbox): Promise<void>;
  readonly sent: number;
  /** How many of the first `count` messages have not arrived. */
  missing(count: number): number;
  result(parked: number): Result;
};

export function openBook({ endpoint }: World): Book {
  const sentAt = new Map<string, number>();
  const arrivedAt = new Map<string, number>();
  let read = 0;
  const learn = () => {
    for (; read < endpoint.received.length; read++) {
      const request = endpoint.received[read]!;
      if (!isIncoming(request)) continue;
      const subject = subjectOf(request);
      if (!arrivedAt.has(subject)) arrivedAt.set(subject, request.at);
    }
  };
  const missing = (count: number) => {
    learn();
    return [...sentAt.keys()].slice(0, count).filter((subject) => !arrivedAt.has(subject));
  };
  return {
    async send(mailbox) {
      const subject = `mail ${String(sentAt.size).padStart(6, "0")}`;
      const raw = message({ subject, to: mailbox.address, text: subject, bytes: 2_000 });
      sentAt.set(subject, Date.now());
      await mailbox.deliver(raw);
    },
    get sent() {
      return sentAt.size;
    },
    missing: (count) => missing(count).length,
    result(parked) {
      const lost = missing(sentAt.size);
      const waits = [...arrivedAt].map(([subject, at]) => at - (sentAt.get(subject) ?? at)).toSorted((a, b) => a - b);
      return {
        sent: sentAt.size,
        delivered: arrivedAt.size,
        parked,
        duplicates: underSeveralIds(endpoint.requests),
        repeats: endpoint.repeats.filter(isIncoming).length,
        missing: lost,
        medianMs: waits[Math.floor(waits.length / 2)] ?? 0,
        worstMs: waits.at(-1) ?? 0,
      };
    },
  };
}

/** Also of requests that were refused: an id must never change. */
function underSeveralIds(requests: readonly EndpointRequest[]): number {
  const whole = requests.filter(isIncoming);
  return [...Map.groupBy(whole, subjectOf).values()].filter((some) => new Set(some.map(({ id }) => id)).size > 1)
    .length;
}

/** Mail that was received; the rest is about mail that was sent. */
function isIncoming({ json }: EndpointRequest): boolean {
  return typeof json === "object" && json !== null && "type" in json && json.type === "message.received";
}
