/**
 * Listening to Exchange beside listening by IMAP, in one run: memory and CPU of idle mailboxes, and the time from the moment the mail
 * server has a message to its POST. On Exchange once with a login for each mailbox, which is a hanging connection for each, and once
 * with one login that acts for all, where 200 subscriptions share a connection.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { startExchange } from "../servers/exchange/server.ts";
import { cpuSeconds, quantile, settledMemory } from "./measured.ts";
import { type Rival, startListening, startOurs } from "./rivals.ts";
import { type Bench, ratio, type Row, shown } from "./report.ts";
import { numberedMail } from "./sink.ts";

const IDLE_MS = 30_000;
const PACE_MS = 100;
const LAST_MS = 60_000;
const PASSWORD = "only for the bench";
const ACTING = "acting@example.com";

export type Figures = {
  first: number;
  each: number;
  beyond: number;
  idle: number;
  p50: number;
  p99: number;
  streams: number;
  /** Of each mailbox in an hour. */
  requests: number;
};
/** The other side: how a message gets in, how many hanging connections there are, and how many requests it got. */
type Far = { deliver: Deliver; streams: () => number; requests?: () => number };
type Deliver = (user: string, raw: Buffer) => Promise<unknown>;

/** Measures the three ways one after the other. */
export async function exchange(bench: Bench): Promise<Row[]> {
  const { mail, users, sizes, runtime } = bench;
  const mailboxes = users(sizes.idle);
  const imap = await measured(await startOurs(runtime, mail), bench, {
    deliver: (user, raw) => mail.server.deliver(user, raw),
    streams: () => mailboxes.length,
  });
  const rows: Row[] = [];
  for (const access of ["own", "impersonate"]) {
    const server = await startExchange();
    try {
      await server.addUser(ACTING, PASSWORD);
      for (const user of mailboxes) await server.addUser(`${user}@example.com`, PASSWORD, { impersonators: [ACTING] });
      const login = (user: string) => (access === "own" ? `${user}@example.com` : ACTING);
      const receive = (user: string) => ({
        protocol: "ews",
        url: server.url,
        access,
        auth: { user: login(user), password: PASSWORD },
      });
      const deliver: Deliver = (user, raw) => server.append(`${user}@example.com`, "inbox", raw);
      const ews = await measured(await startListening(runtime, receive), bench, {
        deliver,
        streams: () => server.streams().length,
      });
      rows.push(
        ...compared(
          `${access === "own" ? "own logins" : "one login"}, ${ews.streams} streams`,
          mailboxes.length,
          ews,
          imap,
        ),
      );
    } finally {
      await server.stop();
    }
  }
  return rows;
}

/** What a service costs with so many idle mailboxes, and how late a message is. Ends it. */
export async function measured(rival: Rival, { users, sizes }: Bench, far: Far): Promise<Figures> {
  const mailboxes = users(sizes.idle);
  const half = Math.floor(mailboxes.length / 2);
  const [pid = 0] = rival.pids;
  try {
    await rival.listen(mailboxes.slice(0, 1));
    const base = await settledMemory(pid);
    await rival.listen(mailboxes.slice(1, half));
    const some = await settledMemory(pid);
    await rival.listen(mailboxes.slice(half));
    const all = await settledMemory(pid);
    const [before, asked] = [await cpuSeconds(pid), far.requests?.() ?? 0];
    await sleep(IDLE_MS);
    const idle = ((await cpuSeconds(pid)) - before) / (IDLE_MS / 1000);
    const requests = (((far.requests?.() ?? 0) - asked) * 3_600_000) / IDLE_MS / mailboxes.length;
    const streams = far.streams();
    const delays = await latencies(rival, mailboxes, sizes, far.deliver);
    const each = (all - base) / (mailboxes.length - 1);
    const beyond = (all - some) / (mailboxes.length - half);
    const [p50, p99] = [quantile(delays, 0.5), quantile(delays, 0.99)];
    return { first: base, each, beyond, idle: 100 * idle, p50, p99, streams, requests };
  } finally {
    await rival.end();
  }
}

async function latencies({ sink }: Rival, mailboxes: string[], sizes: Bench["sizes"], deliver: Deliver) {
  const sentAt: number[] = [];
  for (let number = 0; number < sizes.mails; number++) {
    const user = mailboxes[(number * 7) % mailboxes.length] ?? "";
    const raw = numberedMail(number, sizes.bytes);
    sentAt.push(performance.now());
    await deliver(user, raw);
    await sleep(PACE_MS);
  }
  await sink.all(sizes.mails, LAST_MS);
  return sentAt.map((sent, number) => (sink.at.get(number) ?? Number.NaN) - sent);
}

/** One way to listen beside another. */
export function compared(how: string, count: number, one: Figures, other: Figures): Row[] {
  const row = (what: string, unit: string, value: (of: Figures) => number): Row => ({
    what: `${what}, ${how}`,
    ours: shown(value(one), unit),
    bare: shown(value(other), unit),
    compared: ratio(value(one), value(other)),
  });
  return [
    row("memory with one mailbox", "KiB", ({ first }) => first),
    row(`memory each of ${count}`, "KiB", ({ each }) => each),
    row("memory each beyond half of them", "KiB", ({ beyond }) => beyond),
    row(`CPU of ${count} idle ones`, "%", ({ idle }) => idle),
    row("latency p50", "ms", ({ p50 }) => p50),
    row("latency p99", "ms", ({ p99 }) => p99),
  ];
}
