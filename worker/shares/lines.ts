/**
 * Waiting lines for strangers. Each stranger has its own line, so a task never waits behind another stranger. The
 * stranger's recent answers decide how many visits run at once. The mailboxes in a line take turns.
 */
import { type Turns, turns } from "../../shared/concurrency/turns.ts";
import type { WaitLimits } from "../../shared/concurrency/waiting-line.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { clock, jitter } from "../../shared/time.ts";
import { type Answers, answersOf, type Bounds, type OpenVisit, type Standing, type VisitEnd } from "./answers.ts";

/** `name` identifies the stranger. Strangers of one kind have the same bounds. */
export type Stranger = { name: string; bounds: Bounds };

/**
 * What a task waits for: a stranger (`own`) at a site that it shares with others, for example a mailbox at its mail
 * host, or a URL at its server. Silent strangers together get only a small part of their site, so that they do not
 * delay the others.
 */
export type Destination = { own: Stranger; site: Stranger };

/** A running visit. Disposing ends it as `unclear`. A second end is ignored. */
export type Visit = Disposable & Pick<OpenVisit, "progress" | "end">;

/** The line is too long. The task should be offered again at `at`. */
export class LineFull extends Problem {
  readonly at: Date;
  constructor(at: Date) {
    super("throttled", "Enough tasks wait for the same server already", { retry: at });
    this.at = at;
  }
}

export interface Lines {
  /**
   * Waits for a turn of this owner (a mailbox) at the destination. Rejects with the signal's reason. Rejects with
   * `LineFull` past the limits, or if the destination becomes silent while many wait for it.
   */
  enter(destination: Destination, owner: string, limits: WaitLimits, signal: AbortSignal): Promise<Visit>;
  /**
   * When to offer a task for this destination again. Undefined if it may wait in the lines. `coming` is the number of
   * tasks for the same stranger that started a moment ago and may not be in its line yet. It matters before the first answer.
   */
  offerAgainAt(destination: Destination, owner: string, coming: number): Date | undefined;
  /** How the destination's own stranger answers. */
  standing(destination: Destination): Standing;
  /** Sends away all waiters of the destination's own stranger with `LineFull`, because it is paused. */
  clear(destination: Destination): void;
  /** The number of known strangers, of running visits, and of waiters. */
  counts(): { known: number; visits: number; waiting: number };
}

/** In the line of a site, each waiter and each visit comes from the line of its own stranger. */
type Line = {
  bounds: Bounds;
  answers: Answers;
  /** A waiter is admitted with a visit, or sent away with undefined. */
  waiters: Turns<Line | undefined, OpenVisit | undefined>;
  /** How many visits of each stranger run. In the line of a stranger itself they come from no other line. */
  visits: Map<Line | undefined, number>;
  /** Until when the stranger's time is assigned to tasks that were told to come again, and how it stood then. */
  booked: { until: number; whileSilent: boolean };
};

/**
 * How many may wait for a silent stranger, and for any other: as many as it answers in `ms`, between `least` and
 * `most`.
 */
type Ahead = { silent: number; least: number; most: number; ms: number };
const AHEAD = { silent: 2, most: 256, ms: 1_500 };
/** The part of all tasks in hand that may wait for one unknown stranger. */
const AHEAD_PART = 1 / 8;
/**
 * When a task is offered again. Tasks for the same stranger come one after the other, at this rate, and none later than
 * `latest`. For a stranger that has been silent for long, the limit is half of that time.
 */
const OFFERS = {
  usual: { perSecond: 300, soonest: 200, latest: 60_000 },
  silent: { perSecond: 10, soonest: 2_000, latest: 300_000 },
};
/** Nothing reports that a stranger became silent. So the lines are checked at this interval while somebody waits. */
const CHECK_MS = 250;
/** After this long a silence the line is emptied. Before that a probe may end the silence. */
const CLEAR_AFTER_MS = 2_000;
/** How many waiters are sent away at a time. Each then has work to do, such as writing a message to the spool. */
const MOST_SENT_AWAY = 16;
/** The part of a site that its silent strangers may use together. */
const SILENT_PART = 1 / 4;

type LinesOptions = {
  /** How many tasks may be in hand at the same time. */
  inHand: number;
  now?: () => number;
};

export function strangerLines({ inHand, now = () => performance.now() }: LinesOptions): Lines {
  const ahead: Ahead = { ...AHEAD, least: Math.max(AHEAD.silent, Math.floor(inHand * AHEAD_PART)) };
  const book = lineBook(now);
  const queues = lineQueues(now, ahead);

  return {
    async enter(destination, owner, limits, signal) {
      const [own, site] = [book.own(destination), book.site(destination)];
      const until = now() + (limits.ms ?? Infinity);
      const atOwn = await queues.enter(own, { from: undefined, owner }, limits, signal);
      try {
        const left = limits.ms === undefined ? {} : { ms: Math.max(1, until - now()) };
        return beginVisit(atOwn, await queues.enter(site, { from: own, owner }, left, signal));
      } catch (error) {
        atOwn.end("unclear");
        throw error;
      }
    },
    offerAgainAt(destination, owner, coming) {
      const own = book.own(destination);
      const isCrowded = coming >= own.answers.limit() + mostWaiting(own, ahead);
      if (isCrowded && own.answers.standing() !== "answering") return bookAhead(own, now());
      const long = [own, book.site(destination)].find((line) => !isShort(line, owner, ahead));
      return long && bookAhead(long, now());
    },
    standing: (destination) => book.own(destination).answers.standing(),
    clear: (destination) => void sendAway(book.own(destination), 0),
    counts: book.counts,
  };
}

function beginVisit(atOwn: OpenVisit, atSite: OpenVisit): Visit {
  atOwn.start();
  atSite.start();
  const progress = () => {
    atSite.progress();
    atOwn.progress();
  };
  const end = (how: VisitEnd) => {
    atSite.end(how);
    atOwn.end(how);
  };
  return { progress, end, [Symbol.dispose]: () => end("unclear") };
}

type Comer = { from: Line | undefined; owner: string };

/** Lets waiters into a line, admits them, and sends them away. */
function lineQueues(now: () => number, ahead: Ahead) {
  const waiting = new Set<Line>();
  let timer: NodeJS.Timeout | undefined;

  const begin = (line: Line, from: Line | undefined): OpenVisit => {
    const { start, progress, end } = line.answers.begin();
    let here = 1;
    addVisits(line, from, here);
    return {
      start,
      progress,
      end(how) {
        const wasSilent = from !== undefined && isSilent(from);
        // A stranger that keeps failing shows nothing about its site.
        end(wasSilent && how === "failed" ? "unclear" : how);
        addVisits(line, from, -here);
        here = 0;
        admitWaiting(line, { silentToo: wasSilent });
      },
    };
  };

  /** The end of a visit gives room to its own kind only, so most of the time nobody looks for silent strangers. */
  const admitWaiting = (line: Line, { silentToo }: { silentToo: boolean }) => {
    if (line.waiters.owners === 0) return;
    const room = { silent: silentToo ? roomAt(line, true) : 0, others: roomAt(line, false) };
    for (const next of line.waiters.heads()) {
      if (room.silent <= 0 && room.others <= 0) return;
      const kind = next.about && isSilent(next.about) ? "silent" : "others";
      if (room[kind] <= 0) continue;
      room[kind] -= 1;
      next.admit(begin(line, next.about));
    }
  };

  const check = () => {
    timer = undefined;
    let left = MOST_SENT_AWAY;
    for (const line of waiting) {
      admitWaiting(line, { silentToo: true });
      if (line.answers.silentMs() > CLEAR_AFTER_MS) left -= sendAway(line, mostWaiting(line, ahead), left);
      if (line.waiters.owners === 0) waiting.delete(line);
    }
    if (waiting.size > 0) timer = setTimeout(check, CHECK_MS).unref();
  };

  return {
    async enter(line: Line, { from, owner }: Comer, limits: WaitLimits, signal: AbortSignal): Promise<OpenVisit> {
      signal.throwIfAborted();
      if (line.waiters.waiting(owner) === 0 && roomAt(line, from !== undefined && isSilent(from)) > 0)
        return begin(line, from);
      const late = () => new LineFull(bookAhead(line, now()));
      const admitted = line.waiters.wait(owner, from, { ...limits, late }, signal);
      waiting.add(line);
      timer ??= setTimeout(check, CHECK_MS).unref();
      const visit = await admitted;
      if (!visit) throw late();
      return visit;
    },
  };
}

/** The lines of all known strangers. */
function lineBook(now: () => number) {
  const lines = new Map<string, Line>();
  let sweepAt = MIN_SWEEP_SIZE;

  const sweep = () => {
    if (lines.size < sweepAt) return;
    for (const [name, { answers, waiters }] of lines) {
      if (answers.inFlight === 0 && waiters.size === 0 && now() - answers.usedAt > TTL_MS) lines.delete(name);
    }
    sweepAt = Math.max(MIN_SWEEP_SIZE, 2 * lines.size);
  };

  const get = ({ name, bounds }: Stranger, isSite: boolean): Line => {
    const known = lines.get(name);
    if (known) return known;
    sweep();
    const answers = answersOf(bounds, { now, isSite });
    const waiters = turns<Line | undefined, OpenVisit | undefined>();
    const line: Line = { bounds, answers, waiters, visits: new Map(), booked: { until: 0, whileSilent: false } };
    lines.set(name, line);
    return line;
  };

  return {
    own: ({ own }: Destination) => get(own, false),
    site: ({ site }: Destination) => get(site, true),
    counts() {
      const sum = { known: lines.size, visits: 0, waiting: 0 };
      for (const { answers, waiters } of lines.values()) {
        sum.visits += answers.inFlight;
        sum.waiting += waiters.size;
      }
      return sum;
    },
  };
}

/** A stranger that had no visit for this long is deleted. */
const TTL_MS = 3_600_000;
const MIN_SWEEP_SIZE = 1_000;

function isSilent(line: Line): boolean {
  return line.answers.standing() === "silent";
}

function addVisits({ visits }: Line, from: Line | undefined, more: number): void {
  const count = (visits.get(from) ?? 0) + more;
  if (count > 0) visits.set(from, count);
  else visits.delete(from);
}

/** How many visits may begin: in the line of a site, of its silent strangers or of its others. */
function roomAt({ answers, bounds, visits }: Line, forSilent: boolean): number {
  const most = forSilent ? Math.max(bounds.min, bounds.max * SILENT_PART) : answers.limit();
  let alike = 0;
  for (const [from, count] of visits) if ((from !== undefined && isSilent(from)) === forSilent) alike += count;
  return most - alike;
}

/** Returns how many have left. */
function sendAway({ waiters }: Line, remaining: number, most = Infinity): number {
  const before = waiters.size;
  while (waiters.size > remaining && before - waiters.size < most) waiters.last()?.admit(undefined);
  return before - waiters.size;
}

function mostWaiting(line: Line, { silent, least, most, ms }: Ahead): number {
  if (isSilent(line)) return silent;
  return Math.max(least, Math.min(most, (line.answers.rate() * ms) / 1_000));
}

/** Whether this owner may add one more waiter to the line. The owners that wait share the line; a new owner finds room. */
function isShort(line: Line, owner: string, ahead: Ahead): boolean {
  const { waiters } = line;
  const most = mostWaiting(line, ahead);
  if (isSilent(line)) return waiters.size < most;
  const mine = waiters.waiting(owner);
  const owners = waiters.owners + (mine === 0 ? 1 : 0);
  return owners <= most && mine < Math.max(1, most / owners);
}

/** Books the next free time for a task that is put off. What was booked during a silence does not count after it. */
function bookAhead(line: Line, now: number): Date {
  const silentMs = line.answers.silentMs();
  const whileSilent = silentMs > 0;
  const { perSecond, soonest, latest: longest } = whileSilent ? OFFERS.silent : OFFERS.usual;
  const latest = whileSilent ? Math.min(longest, Math.max(2 * soonest, silentMs / 2)) : longest;
  const booked = line.booked.whileSilent === whileSilent ? line.booked.until : 0;
  const free = Math.max(booked, now + soonest);
  if (free >= now + latest) return new Date(clock.now() + jitter(latest));
  // Twice as many as are answered, so that a fast stranger always has somebody to answer.
  const until = free + 1_000 / Math.max(perSecond, 2 * line.answers.rate());
  line.booked = { until, whileSilent };
  return new Date(clock.now() + free - now);
}
