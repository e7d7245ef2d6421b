/**
 * What happens after an endpoint was away: when its first mail comes after its return, and how fast what waited goes
 * out, against a burst without an outage in the same run. All waits are those of production.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { eventually } from "../servers/waiting.ts";
import { startService } from "../service.ts";
import { type Bench, ratio, type Row, shown } from "./report.ts";
import { asRival, byImap, command } from "./rivals.ts";
import { startSink } from "./sink.ts";
import { burst, deliverMails, warmedUp } from "./throughput.ts";

const MAILBOXES = 50;
const MAILS = 3_000;
const BEGIN_GOAL_SECONDS = 5;
/** Long enough that the pauses of the endpoint have grown. */
const AWAY_MS = 90_000;
const STORED_MS = 120_000;
const WORKED_OFF_MS = 600_000;

export async function outage(bench: Bench): Promise<Row[]> {
  const { mail, users, runtime } = bench;
  const mailboxes = users(MAILBOXES);
  const service = await startService({ BACKOFF_SCALE: "1" }, command(runtime));
  const rival = await asRival("service", [service], byImap(mail));
  try {
    await rival.listen(mailboxes);
    await warmedUp(bench, rival, mailboxes.slice(-1));
    const quiet = await burst({ ...bench, sizes: { ...bench.sizes, burst: MAILS } }, rival, mailboxes);
    await rival.sink.close();
    await deliverMails(bench, mailboxes, MAILS);
    const waiting = async () =>
      (await service.call("GET", "/api/v1/deliveries?state=retrying&limit=1")).body.total >= MAILS;
    await eventually(waiting, "the mails to wait for their endpoint", STORED_MS, 1_000);
    await sleep(AWAY_MS);
    const returned = performance.now();
    const sink = await startSink(Number(new URL(rival.sink.url).port));
    try {
      await sink.all(MAILS, WORKED_OFF_MS);
      const [first, last] = [Math.min(...sink.at.values()), Math.max(...sink.at.values())];
      const perSecond = (MAILS * 1_000) / (last - first);
      const seconds = (first - returned) / 1_000;
      return [
        {
          what: `seconds from the return of an endpoint to its first mail, after ${AWAY_MS / 1_000} s`,
          ours: shown(seconds, "s"),
          bare: shown(BEGIN_GOAL_SECONDS, "s"),
          compared: ratio(seconds, BEGIN_GOAL_SECONDS),
        },
        {
          what: `${MAILS} that waited, per second, beside a burst`,
          ours: shown(perSecond),
          bare: shown(quiet.perSecond),
          compared: ratio(perSecond, quiet.perSecond),
        },
      ];
    } finally {
      await sink.close();
    }
  } finally {
    await rival.end();
  }
}
