/**
 * What an idle mailbox costs in memory: the growth of the process over itself without any, divided by the mailboxes. That counts
 * what a process grows once when it begins to work; what each further mailbox adds is the last row.
 */
import { settledMemory } from "./measured.ts";
import { startBare, startOurs } from "./rivals.ts";
import { type Bench, type Row, ratio, shown } from "./report.ts";

/** The rows that the sizing table uses, because real mailboxes use TLS. */
const SIZING = ["baseBytes", null, "mailboxBytes"] as const;

/** Measures each rival with half of the mailboxes, then with all. */
export async function memory({ mail, users, sizes, runtime }: Bench): Promise<Row[]> {
  const mailboxes = users(sizes.idle);
  const half = Math.floor(mailboxes.length / 2);
  const grown: number[][] = [];
  for (const start of [startOurs, startBare]) {
    const rival = await start(runtime, mail);
    try {
      const [pid = 0] = rival.pids;
      const base = await settledMemory(pid);
      await rival.listen(mailboxes.slice(0, half));
      const some = await settledMemory(pid);
      await rival.listen(mailboxes.slice(half));
      const all = await settledMemory(pid);
      const more = (all - some) / (mailboxes.length - half);
      grown.push([base, (some - base) / half, (all - base) / mailboxes.length, more]);
    } finally {
      await rival.end();
    }
  }
  const [ours = [], bare = []] = grown;
  const names = ["without mailboxes", `each of ${half}`, `each of ${mailboxes.length}`, `each beyond ${half}`];
  return names.map((name, index) => {
    const [a = Number.NaN, b = Number.NaN] = [ours[index], bare[index]];
    const figure = mail.tls ? SIZING[index] : undefined;
    return {
      ...(figure && { sizing: { [figure]: Math.round(a * 1024) } }),
      what: `memory ${name}`,
      ours: shown(a, "KiB"),
      bare: shown(b, "KiB"),
      compared: ratio(a, b),
    };
  });
}
