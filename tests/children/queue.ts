/** A process with a queue, to be killed: it says each task that it has sent, begun and done. */
import { setTimeout as sleep } from "node:timers/promises";
import { openQueueAt, type QueueAddress } from "../promises/queue-address.ts";
import { nameOf, taskOf } from "../promises/queues.ts";

// Given by the test that starts this.
const { place, deed, own } = JSON.parse(process.argv[2] ?? "") as {
  place: QueueAddress;
  deed: { send: true } | { performMs: number };
  own?: string;
};
const say = (line: string) => process.stdout.write(`${line}\n`);
const queue = await openQueueAt(place, own === undefined ? {} : { own });

if ("send" in deed) {
  for (let n = 0; ; n++) {
    await queue.tasks.send(taskOf(`t${n}`, `m${n % 10}`));
    say(`sent t${n}`);
  }
}
const { performMs } = deed;
await queue.tasks.run(
  async (task) => {
    say(`begun ${nameOf(task)}`);
    if (nameOf(task) === "poison") process.kill(process.pid, "SIGKILL");
    await sleep(performMs);
    say(`done ${nameOf(task)}`);
    return { kind: "done" };
  },
  { concurrency: 8 },
  new AbortController().signal,
);
