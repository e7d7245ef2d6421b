/** The numbers of the first view over the last hours, as all nodes have counted them. */
import {
  DELIVERED,
  listeningIn,
  PARKED,
  percentile95,
  PERIOD_MS,
  periodOf,
  WAITING,
} from "../../../../shared/telemetry/tallies.ts";
import { clock } from "../../../../shared/time.ts";
import type { NumberHistory, Points } from "../../../pages/console/now.ts";
import type { ScopedDeps } from "../../../scoped-deps.ts";

/** Six hours of periods. */
const PERIODS = 72;
const PERIODS_PER_HOUR = 3_600_000 / PERIOD_MS;

/** Undefined for those who see only some mailboxes: the counts are of all. */
export async function readNumberHistory({
  store,
  mailboxPrefix,
}: Pick<ScopedDeps, "store" | "mailboxPrefix">): Promise<NumberHistory | undefined> {
  if (mailboxPrefix !== "") return undefined;
  const current = periodOf(clock.now());
  const first = current - PERIODS * PERIOD_MS;
  const periods = new Map((await store.measures.readPeriods(first)).map(({ at, values }) => [at, values]));
  const points = (read: (values: ReadonlyMap<string, number>) => number | null | undefined): Points =>
    Array.from({ length: PERIODS }, (_, n) => {
      const values = periods.get(first + n * PERIOD_MS);
      return values ? (read(values) ?? null) : null;
    });
  const lastHour = [...periods].filter(([at]) => at > current - PERIODS_PER_HOUR * PERIOD_MS);
  return {
    listening: points(listeningIn),
    deliveredPerMinute: points((values) => ((values.get(DELIVERED) ?? 0) * 60_000) / PERIOD_MS),
    latencyP95: points((values) => percentile95([values])),
    waiting: points((values) => values.get(WAITING)),
    parked: points((values) => values.get(PARKED)),
    latencyP95LastHour: percentile95(lastHour.map(([, values]) => values)),
    deliveredPerMinuteNow: currentRate(current, (at) => periods.get(at)?.get(DELIVERED) ?? 0),
  };
}

/** Deliveries per minute of the last ten minutes: of the oldest period only the part that is not older counts. */
function currentRate(current: number, deliveredIn: (at: number) => number): number {
  const left = 1 - (clock.now() - current) / PERIOD_MS;
  const delivered =
    deliveredIn(current) + deliveredIn(current - PERIOD_MS) + left * deliveredIn(current - 2 * PERIOD_MS);
  return (delivered * 60_000) / (2 * PERIOD_MS);
}
