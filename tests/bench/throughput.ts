/**
 * How fast a burst is worked off and what it costs. The rival is frozen while the mail is put into the mailboxes, so that neither
 * the mail server's notification nor the load generator is measured; the clock runs from the thaw to the last POST.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { cpuSeconds } from "./measured.ts";
import { inParallel, type Rival, startBare, startOurs } from "./rivals.ts";
import { type Bench, type Row, ratio, shown } from "./report.ts";
import { numberedMail } from "./sink.ts";

type Result = { perSecond: number; cpu: number };

const NOTIFIED_MS = 2000;
const SETTLED_MS = 1000;
const BURST_MS = 180_000;
const WARM_UP = 500;

/** One burst into one mailbox, one over all of them, for each rival in turn. */
export async function throughput(bench: Bench): Promise<Row[]> {
  const { mail, users, sizes, runtime } = bench;
  const mailboxes = users(sizes.mailboxes);
  const shapes = [
    { name: "into one mailbox", mailboxes: mailboxes.slice(0, 1) },
    { name: `over ${mailboxes.length} mailboxes`, mailboxes },
  ];
  const results: Result[][] = [];
  for (const start of [startOurs, startBare]) {
    const rival = await start(runtime, mail);
    try {
      await rival.listen(mailboxes);
      // The first messages of a process pay for compiling its code.
      await burst({ ...bench, sizes: { ...sizes, burst: WARM_UP } }, rival, mailboxes.slice(-1));
      const bursts: Result[] = [];
      for (const shape of shapes) bursts.push(await burst(bench, rival, shape.mailboxes));
      results.push(bursts);
    } finally {
      await rival.end();
    }
  }
  return shapes.flatMap(({ name }, index) => rows(`${sizes.burst} ${name}`, results[0]?.[index], results[1]?.[index]));
}

async function burst({ mail, sizes }: Bench, { pid, sink }: Rival, mailboxes: string[]): Promise<Result> {
  const count = Math.floor(sizes.burst / mailboxes.length) * mailboxes.length;
  const each = count / mailboxes.length;
  sink.clear();
  process.kill(pid, "SIGSTOP");
  try {
    const jobs = mailboxes.map((user, index) => ({ user, first: index * each }));
    await inParallel(jobs, 4, async ({ user, first }) => {
      const mails = Array.from({ length: each }, (_, n) => numberedMail(first + n, sizes.bytes));
      await mail.server.appendMany(user, "INBOX", mails);
    });
    await sleep(NOTIFIED_MS);
  } finally {
    process.kill(pid, "SIGCONT");
  }
  const before = await cpuSeconds(pid);
  const began = performance.now();
  await sink.all(count, BURST_MS);
  const last = Math.max(...sink.at.values());
  await sleep(SETTLED_MS);
  const cpu = (await cpuSeconds(pid)) - before;
  return { perSecond: (count * 1000) / (last - began), cpu: (cpu * 1000) / count };
}

function rows(name: string, ours: Result | undefined, bare: Result | undefined): Row[] {
  if (!ours || !bare) return [];
  return [
    {
      what: `${name}, per second`,
      ours: shown(ours.perSecond),
      bare: shown(bare.perSecond),
      compared: ratio(ours.perSecond, bare.perSecond),
    },
    {
      what: `${name}, CPU per 1,000`,
      ours: shown(ours.cpu, "s"),
      bare: shown(bare.cpu, "s"),
      compared: ratio(ours.cpu, bare.cpu),
    },
  ];
}
