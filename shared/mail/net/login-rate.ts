/**
 * The admission gate: connections to one mail host are opened at a bounded pace that follows how the host takes them, so that a restart
 * of thousands of mailboxes is no login storm, and a take-over of some hundreds no long wait.
 */
import { asProblem, type Problem } from "../../contract/problem.ts";
import { jittered } from "../../time.ts";

export interface Admission {
  /** Resolves when a connection to `host` may be opened; rejects with the signal's reason when it aborts first. */
  enter(host: string, signal: AbortSignal): Promise<void>;
  /** How an opened connection went: the host let it in, or turned it away. */
  went(host: string, well: boolean): void;
}

/** What a client of mail hosts needs to keep their pace; without it, connections are opened at once. */
export type Paced = { gate?: Admission["enter"]; went?: Admission["went"] };

/** A host that answers so to a new connection gets too many of them. */
const TURNED_AWAY = new Set<Problem["code"]>([
  "too_many_connections",
  "throttled",
  "unavailable",
  "connect",
  "timeout",
]);

/** Opens a connection (up to its login) when its turn has come, and tells the gate how the host took it. */
export async function atPace<T>(
  { gate, went }: Paced,
  host: string,
  open: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  await gate?.(host, signal);
  try {
    const opened = await open();
    went?.(host, true);
    return opened;
  } catch (error) {
    if (!signal.aborted && TURNED_AWAY.has(asProblem(error).code)) went?.(host, false);
    throw error;
  }
}

/** Connections a second to a host of which nothing is known yet; as many pass at once after a quiet time. */
const FIRST = 20;
const GROWTH = 2;
/** The slowest pace that refusals lead to. */
const LEAST = 1;
/** A host unused for so long is begun with anew. */
const FORGOTTEN_MS = 60_000;
const HOSTS_KEPT = 1_000;

type House = { pace: number; nextAt: number; waiting: Set<() => void>; timer: NodeJS.Timeout | undefined };

/**
 * Admits in order of arrival, jittered: FIRST connections a second to each host, GROWTH more for each that went well, up to `perSecond`;
 * each refusal halves it.
 */
export function admission(perSecond: number): Admission {
  const houses = new Map<string, House>();
  const first = Math.min(FIRST, perSecond);

  const houseOf = (host: string): House => {
    const now = performance.now();
    const known = houses.get(host);
    if (known && known.nextAt > now - FORGOTTEN_MS) return known;
    if (houses.size >= HOSTS_KEPT) forgetQuiet(houses, now - FORGOTTEN_MS);
    const house = { pace: first, nextAt: now - FORGOTTEN_MS, waiting: new Set<() => void>(), timer: undefined };
    houses.set(host, house);
    return house;
  };

  return {
    enter(host, signal) {
      return new Promise((resolve, reject) => {
        if (signal.aborted) return reject(signal.reason);
        const house = houseOf(host);
        const leave = () => {
          house.waiting.delete(admit);
          reject(signal.reason);
        };
        const admit = () => {
          signal.removeEventListener("abort", leave);
          resolve();
        };
        signal.addEventListener("abort", leave, { once: true });
        house.waiting.add(admit);
        admitDue(house);
      });
    },
    went(host, well) {
      const house = houses.get(host);
      if (!house) return;
      house.pace = well
        ? Math.min(perSecond, house.pace + GROWTH)
        : Math.max(Math.min(LEAST, perSecond), house.pace / 2);
    },
  };
}

function admitDue(house: House): void {
  clearTimeout(house.timer);
  const now = performance.now();
  const gap = 1_000 / house.pace;
  // What may pass at once after a quiet time.
  house.nextAt = Math.max(house.nextAt, now - gap * (Math.max(1, Math.floor(Math.min(FIRST, house.pace))) - 1));
  for (const admit of house.waiting) {
    if (house.nextAt > now) break;
    house.waiting.delete(admit);
    house.nextAt += gap;
    admit();
  }
  if (house.waiting.size > 0) house.timer = setTimeout(admitDue, jittered(house.nextAt - now), house);
}

function forgetQuiet(houses: Map<string, House>, before: number): void {
  for (const [host, { nextAt, waiting }] of houses) if (nextAt < before && waiting.size === 0) houses.delete(host);
}
