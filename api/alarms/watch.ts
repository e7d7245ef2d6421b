/** Looks for trouble from time to time, and tells it once when it begins and once when it ends, whichever node looks. */
import * as v from "valibot";
import { untilAborted } from "../../shared/concurrency/abort.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import type { Part } from "../../shared/run.ts";
import { clock, sleep } from "../../shared/time.ts";
import type { CheckDeps } from "../checks/check.ts";
import { AlarmBook, EMPTY_BOOK, type Notice, type Patience, recordLook } from "./book.ts";
import { findCauses } from "./causes.ts";
import { type ChannelDeps, channelsOf, sendNotice } from "./channels.ts";

export type AlarmDeps = CheckDeps & ChannelDeps;

const DOCUMENT = "alarms";
const LOOK_MS = 20_000;
const PATIENCE: Patience = { lastsMs: 60_000, goneMs: 90_000 };
const LOCK_MS = 2_000;
/** Waits before a message that was not taken is sent again. The last one repeats for RETRY_HOURS. */
const RETRY_MS = [10_000, 30_000, 120_000, 600_000];

/** Multiplied by BACKOFF_SCALE, as the waits between attempts are. */
function timesOf({ BACKOFF_SCALE: scale }: AlarmDeps["config"]) {
  const patience = { lastsMs: scale * PATIENCE.lastsMs, goneMs: scale * PATIENCE.goneMs };
  return { lookMs: scale * LOOK_MS, patience };
}

/** A part that does nothing if the settings name no channel. A look that fails is reported once. */
export function alarmWatch(deps: AlarmDeps): Part {
  const { lookMs } = timesOf(deps.config);
  let failing = false;
  const look = async (signal: AbortSignal) => {
    try {
      const limits = { waitMs: LOCK_MS, what: "The look for alarms" };
      await deps.store.locks.hold(DOCUMENT, limits, (held) => lookAndTell(deps, held), signal);
      failing = false;
    } catch (error) {
      const { code, message } = asProblem(error);
      // Another node is looking, or this one stops.
      if (signal.aborted || code === "timeout") return;
      const failure = { code, cause: message };
      if (!failing) deps.facts.emit({ kind: "service.failed", what: "the look for alarms", failure });
      failing = true;
    }
  };
  return {
    name: "alarms",
    async run(signal) {
      if (channelsOf(deps.config).length === 0) return untilAborted(signal);
      while (await sleep(lookMs, signal)) await look(signal);
    },
  };
}

async function lookAndTell(deps: AlarmDeps, signal: AbortSignal): Promise<void> {
  const { lookMs, patience } = timesOf(deps.config);
  const { book, revision } = await readBook(deps);
  const pages = bookPages(deps, book, revision);
  const now = clock.now();
  if (book.lookedAt === null || now - Date.parse(book.lookedAt) >= lookMs / 2) {
    const found = await findCauses(deps, signal);
    const next = recordLook(book, found, { now, patience, channels: channelsOf(deps.config) });
    await pages.write(next);
    reportNew(deps, book, next);
  }
  for (const { id } of pages.book.notices) await tell(deps, pages, id, signal);
}

/** The book with the revision that it was read or written with last. Throws `conflict` if another node was faster. */
function bookPages({ store }: Pick<AlarmDeps, "store">, first: AlarmBook, firstRevision: number) {
  let [book, revision] = [first, firstRevision];
  return {
    get book() {
      return book;
    },
    async write(next: AlarmBook) {
      if (!(await store.documents.write(DOCUMENT, { revision, text: JSON.stringify(next) })))
        throw new Problem("conflict", "Another node changed the book of alarms meanwhile");
      [book, revision] = [next, revision + 1];
    },
  };
}

/** The book as it is stored; an empty one if there is none, or if another version wrote it. */
export async function readBook({ store }: Pick<AlarmDeps, "store">): Promise<{ book: AlarmBook; revision: number }> {
  const stored = await store.documents.read(DOCUMENT);
  const parsed = stored && v.safeParse(AlarmBook, JSON.parse(stored.text));
  return { book: parsed?.success ? parsed.output : EMPTY_BOOK, revision: stored?.revision ?? 0 };
}

function reportNew({ facts }: AlarmDeps, before: AlarmBook, after: AlarmBook): void {
  const known = new Set(before.notices.map(({ id }) => id));
  for (const { id, type, alarm } of after.notices) {
    if (known.has(id) || type === "alarm.test") continue;
    const { code, place, count, cause } = alarm;
    facts.emit({ kind: type, code, place, count, cause });
  }
}

/** Sends one notice by each channel that has not taken it, if it is due, and writes down who has. */
async function tell(deps: AlarmDeps, pages: ReturnType<typeof bookPages>, id: string, signal: AbortSignal) {
  const notice = pages.book.notices.find((one) => one.id === id);
  if (!notice || Date.parse(notice.nextAttemptAt) > clock.now()) return;
  const results = await Promise.all(
    notice.pending.map(async (channel) => ({ channel, problem: await sendNotice(deps, channel, notice, signal) })),
  );
  signal.throwIfAborted();
  const failed = results.filter(({ problem }) => problem !== null);
  const next = failed.length === 0 ? undefined : retryLater(deps, notice, failed);
  const notices = pages.book.notices.flatMap((one) => (one.id === id ? (next ?? []) : one));
  await pages.write({ ...pages.book, notices });
}

type Failed = { channel: Notice["pending"][number]; problem: string | null };

/** The notice with its next attempt. Undefined once it was tried for RETRY_HOURS. */
function retryLater({ config, facts }: AlarmDeps, notice: Notice, failed: Failed[]): Notice | undefined {
  const attempts = notice.attempts + 1;
  const waitMs = config.BACKOFF_SCALE * (RETRY_MS[Math.min(attempts, RETRY_MS.length) - 1] ?? 0);
  const now = clock.now();
  const isOver = now - Date.parse(notice.at) > config.RETRY_HOURS * 3_600_000;
  const retryAt = isOver ? null : new Date(now + waitMs).toISOString();
  const problem = failed.map((one) => `${one.channel}: ${one.problem ?? ""}`).join("; ");
  facts.emit({ kind: "alarm.not_told", type: notice.type, reason: problem, retryAt });
  if (retryAt === null) return undefined;
  return { ...notice, pending: failed.map(({ channel }) => channel), attempts, nextAttemptAt: retryAt, problem };
}
