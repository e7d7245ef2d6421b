/** The books of what goes out: which requests to send were accepted, how each ended, and what the mail server and the endpoint got. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "./random.ts";
import type { World } from "./world.ts";

export type SendingsResult = {
  accepted: number;
  sent: number;
  unknown: number;
  /** Neither sent nor unknown at the end. */
  unfinished: string[];
  /** Subjects that the mail server took more than once. */
  twice: string[];
  /** Marked as sent, and never taken by the mail server. */
  untaken: string[];
  /** Sendings of whose end the endpoint never heard. */
  unreported: string[];
  /** Sent before their time. */
  early: string[];
};

export type Sendings = {
  /** Asks some node to send one message; repeats the request under its key until a node accepts it. */
  send(): Promise<void>;
  /** How many accepted messages are still on their way. */
  pending(): Promise<number>;
  result(): SendingsResult;
};

type Known = { id: string; subject: string; sendAt: number; state: string; sentAt: number };

const MAX_DELAY_MS = 4_000;
const REPEAT_MS = 300;

export function openSendings(world: World, random: Random): Sendings {
  const known: Known[] = [];
  const mailboxes = world.mailboxes.filter(({ sends }) => sends);
  let count = 0;
  const ask = async (path: string, body: object, headers: Record<string, string>) => {
    const { service } = random.pick(world.apis);
    return service.call("POST", path, body, headers).catch(() => undefined);
  };
  const learn = async (one: Known) => {
    const { service } = random.pick(world.apis);
    const answer = await service.call("GET", `/api/v1/messages/${one.id}`).catch(() => undefined);
    if (answer?.status !== 200) return;
    one.state = answer.body.state;
    one.sentAt = answer.body.sentAt === null ? 0 : Date.parse(answer.body.sentAt);
  };
  const isPending = ({ state }: Known) => state === "queued";
  return {
    async send() {
      const n = count++;
      const subject = `out ${String(n).padStart(5, "0")}`;
      const sendAt = n % 3 === 0 ? Date.now() + random.whole(500, MAX_DELAY_MS) : Date.now();
      const body = { to: [`bob-${n}@example.net`], subject, text: subject, sendAt: new Date(sendAt).toISOString() };
      const path = `/api/v1/mailboxes/${random.pick(mailboxes).id}/messages`;
      for (;;) {
        const answer = await ask(path, body, { "idempotency-key": subject });
        if (answer?.status === 202) {
          known.push({ id: answer.body.id, subject, sendAt, state: "queued", sentAt: 0 });
          return;
        }
        await sleep(REPEAT_MS);
      }
    },
    async pending() {
      for (const one of known.filter(isPending)) await learn(one);
      return known.filter(isPending).length;
    },
    result() {
      const taken = Map.groupBy(world.smtp.taken, ({ raw }) => /^Subject: (.*)$/m.exec(raw)?.[1]?.trim() ?? "");
      const reported = new Set(world.endpoint.received.map(({ json }) => reportedId(json)));
      return {
        accepted: known.length,
        sent: known.filter(({ state }) => state === "sent").length,
        unknown: known.filter(({ state }) => state === "unknown").length,
        unfinished: describe(known.filter(({ state }) => state !== "sent" && state !== "unknown")),
        twice: [...taken].filter(([, copies]) => copies.length > 1).map(([subject]) => subject),
        untaken: describe(known.filter(({ state, subject }) => state === "sent" && !taken.has(subject))),
        unreported: describe(known.filter(({ id }) => !reported.has(id))),
        early: describe(known.filter(({ state, sendAt, sentAt }) => state === "sent" && sentAt < sendAt)),
      };
    },
  };
}

function reportedId(json: unknown): string | undefined {
  const event = json as { type?: string; data?: { id?: string } } | undefined;
  return event?.type?.startsWith("message.") && event.type !== "message.received" ? event.data?.id : undefined;
}

function describe(some: Known[]): string[] {
  return some.map(({ subject, id, state }) => `${subject} (${id}, ${state})`);
}
