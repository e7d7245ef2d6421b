/** A process with the embedded queue, to be killed: `send` says each task it has sent, `perform` each it has begun and done. */
import { setTimeout as sleep } from "node:timers/promises";
import { inlineQueue } from "../../shared/queue/sqlite/queue.ts";
import { openDatabase } from "../../shared/store/sqlite/database.ts";
import { backoff } from "../../shared/time.ts";
import { nameOf, taskOf } from "../promises/queues.ts";

const [path = "", mode] = process.argv.slice(2);
const queue = inlineQueue({ database: openDatabase(path), backoff, onFailed: () => undefined });

if (mode === "send") {
  for (let n = 0; ; n++) {
    await queue.send(taskOf(`t${n}`, `m${n % 10}`));
    process.stdout.write(`t${n}\n`);
  }
}
await queue.run(
  async (task) => {
    process.stdout.write(`begun ${nameOf(task)}\n`);
    await sleep(20);
    process.stdout.write(`done ${nameOf(task)}\n`);
    return { kind: "done" };
  },
  { concurrency: 8 },
  new AbortController().signal,
);
