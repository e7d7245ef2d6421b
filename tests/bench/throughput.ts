/**
 * How fast a burst is worked off and what it costs. The rival is frozen while the mail is put into the mailboxes, so that neither
 * the mail server's notification nor the load generator is measured; the clock runs from the thaw to the last POST.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { cpuSeconds } from "./measured.ts";
import { inParallel, type Rival, startBare, startOurs } from "./rivals.ts";
import { type Bench, compared, type Result, type Row } from "./report.ts";
import { numberedMail } from "./sink.ts";

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
      await warmedUp(bench, rival, mailboxes.slice(-1));
      const bursts: Result[] = [];
      for (const shape of shapes) bursts.push(await burst(bench, rival, shape.mailboxes));
      results.push(bursts);
    } finally {
      await rival.end();
    }
  }
  return shapes.flatMap(({ name }, index) =>
    compared(`${sizes.burst} ${name}`, results[0]?.[index], results[1]?.[index]),
  );
}

/** The first messages of each process pay for compiling its code. */
export async function warmedUp(bench: Bench, rival: Rival, mailboxes: string[]): Promise<void> {
  const count = WARM_UP * rival.pids.length;
  await burst({ ...bench, sizes: { ...bench.sizes, burst: count } }, rival, mailboxes);
}

/** One burst spread evenly over these mailboxes. `beside` runs the work from the thaw to the last POST beside something else. */
export async function burst(
  bench: Bench,
  { pids, sink }: Rival,
  mailboxes: string[],
  beside: (work: () => Promise<void>) => Promise<void> = (work) => work(),
): Promise<Result> {
  sink.clear();
  for (const pid of pids) process.kill(pid, "SIGSTOP");
  let count: number;
  try {
    count = await deliverMails(bench, mailboxes, bench.sizes.burst);
    await sleep(NOTIFIED_MS);
  } finally {
    for (const pid of pids) process.kill(pid, "SIGCONT");
  }
  const before = await cpuSeconds(...pids);
  const began = performance.now();
  await beside(() => sink.all(count, BURST_MS));
  const last = Math.max(...sink.at.values());
  await sleep(SETTLED_MS);
  const cpu = (await cpuSeconds(...pids)) - before;
  return { perSecond: (count * 1000) / (last - began), cpu: (cpu * 1000) / count };
}

/** Puts numbered mails into these mailboxes, as many into each. Returns how many in all. */
export async function deliverMails(
  { mail, sizes }: Pick<Bench, "mail" | "sizes">,
  mailboxes: string[],
  about: number,
): Promise<number> {
  const each = Math.floor(about / mailboxes.length);
  const jobs = mailboxes.map((user, index) => ({ user, first: index * each }));
  await inParallel(jobs, 4, async ({ user, first }) => {
    const mails = Array.from({ length: each }, (_, n) => numberedMail(first + n, sizes.bytes));
    await mail.server.appendMany(user, "INBOX", mails);
  });
  return each * mailboxes.length;
}
