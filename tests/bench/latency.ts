/**
 * From the moment the mail server has taken a mail to its POST. The service and the bare loop listen to the same mailboxes at
 * the same time, so that the mail server's own delay is the same for both.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { quantile } from "./measured.ts";
import { type Rival, startBare, startOurs } from "./rivals.ts";
import { type Bench, type Row, shown } from "./report.ts";
import { numberedMail } from "./sink.ts";

const PACE_MS = 100;
const LAST_MS = 60_000;

/** Sends single mails, one mailbox after the other. */
export async function latency({ mail, users, sizes, runtime }: Bench): Promise<Row[]> {
  const mailboxes = users(sizes.mailboxes);
  const rivals = [await startOurs(runtime, mail), await startBare(runtime, mail)];
  try {
    for (const rival of rivals) await rival.listen(mailboxes);
    await sleep(2000);
    const sentAt = new Map<number, number>();
    for (let number = 0; number < sizes.mails; number++) {
      await mail.server.deliver(mailboxes[number % mailboxes.length] ?? "", numberedMail(number, sizes.bytes));
      sentAt.set(number, performance.now());
      await sleep(PACE_MS);
    }
    for (const rival of rivals) await rival.sink.all(sizes.mails, LAST_MS);
    const [ours = [], bare = []] = rivals.map((rival) => delays(rival, sentAt));
    const row = (name: string, share: number): Row => {
      const [a, b] = [quantile(ours, share), quantile(bare, share)];
      return {
        what: `latency ${name}, ${mailboxes.length} mailboxes`,
        ours: shown(a, "ms"),
        bare: shown(b, "ms"),
        compared: `${shown(a - b, "ms")} more`,
      };
    };
    return [row("p50", 0.5), row("p99", 0.99)];
  } finally {
    for (const rival of rivals) await rival.end();
  }
}

function delays({ sink }: Rival, sentAt: Map<number, number>): number[] {
  return [...sentAt].map(([number, sent]) => (sink.at.get(number) ?? Number.NaN) - sent);
}
