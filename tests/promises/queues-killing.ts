/** What every queue promises about processes that are killed, whatever they were doing at that moment. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Problem } from "../../shared/contract/problem.ts";
import { eventually } from "../servers/waiting.ts";
import { nameOf, type NewQueuePlace, type OpenQueue, type QueuePlace, taskOf, working } from "./queues.ts";

const done = { kind: "done" } as const;
const program = fileURLToPath(new URL("../children/queue.ts", import.meta.url));

/** What the process does: sends tasks without end, or performs them, each for so long. */
type Deed = { send: true } | { performMs: number };

/** A process with the queue of this place; `lines` are what it said: "sent x", "begun x", "done x". */
export function processAt(place: QueuePlace, deed: Deed, own?: string) {
  const runtime = "deno" in process.versions ? ["run", "-A", "--no-check"] : [];
  const args = [...runtime, program, JSON.stringify({ place: place.address, deed, own })];
  const started = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const closed = once(started, "close");
  let said = "";
  started.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  const names = (what: string) =>
    said
      .split("\n")
      .slice(0, -1)
      .filter((line) => line.startsWith(`${what} `))
      .map((line) => line.slice(what.length + 1));
  return {
    names,
    /** SIGSTOP: it stands still with its connections open. */
    pause: () => void started.kill("SIGSTOP"),
    /** Kills it once it was heard to do this so often. */
    async killAfter(what: string, count: number) {
      await eventually(() => names(what).length >= count, `${count} times ${what}`).finally(() =>
        started.kill("SIGKILL"),
      );
      await closed;
    },
  };
}

/** Performs tasks here until all of these were seen. Returns them with their attempts. */
async function performUntil(queue: OpenQueue, isEnough: (seen: Map<string, number>) => boolean | Promise<boolean>) {
  const seen = new Map<string, number>();
  const work = working(queue, async (task, attempt) => {
    seen.set(nameOf(task), attempt);
    return done;
  });
  await eventually(() => isEnough(seen), "all that was left");
  await work.stop();
  return seen;
}

export function killing(make: NewQueuePlace): void {
  /** Skips places that keep nothing: nothing of theirs outlives a process. */
  const atPlace = (name: string, story: (place: QueuePlace) => Promise<void>) =>
    test(name, async (t) => {
      const place = make();
      if (place.address) await story(place);
      else t.diagnostic("skipped: this queue keeps nothing, by choice");
    });

  atPlace("kill -9 of a process that sends loses no task whose send resolved", async (place) => {
    const killed = processAt(place, { send: true });
    await killed.killAfter("sent", 100);
    const queue = await place.open();
    const sent = killed.names("sent");
    await performUntil(queue, (seen) => sent.every((name) => seen.has(name)));
    await queue.close();
  });

  atPlace(
    "kill -9 of a process with its hands full: what it held, what waited, what was tried and what is parked all stay",
    async (place) => {
      const before = await place.open();
      await before.tasks.send(taskOf("bad"));
      await before.tasks.send(taskOf("tried"));
      const preparing = working(before, async (task) => {
        if (nameOf(task) === "bad") throw new Problem("message", "cannot be handled", { retry: "never" });
        throw new Problem("throttled", "wait", { retry: new Date(Date.now() + 4_000) });
      });
      await eventually(() => before.failures.length === 2, "both failures");
      await preparing.stop();
      await before.tasks.send(taskOf("delayed"), { notBefore: new Date(Date.now() + 4_000) });
      const names = Array.from({ length: 20 }, (_, n) => `t${n}`);
      for (const [n, name] of names.entries()) await before.tasks.send(taskOf(name, `m${n % 4}`));
      await before.close();

      const killed = processAt(place, { performMs: 600_000 });
      await killed.killAfter("begun", 8);

      const after = await place.open();
      const all = [...names, "tried", "delayed"];
      const seen = await performUntil(after, (soFar) => all.every((name) => soFar.has(name)));
      assert.equal(seen.get("tried"), 2);
      assert.equal(seen.get("delayed"), 1);
      assert.deepEqual(
        (await after.tasks.parked(10)).map(({ task }) => task && nameOf(task)),
        ["bad"],
      );
      await after.close();
    },
  );

  atPlace(
    "kill -9 of a process between the end of a task and the next: every task is performed to its end",
    async (place) => {
      const before = await place.open();
      const names = Array.from({ length: 200 }, (_, n) => `t${n}`);
      for (const [n, name] of names.entries()) await before.tasks.send(taskOf(name, `m${n % 8}`));
      await before.close();
      const killed = processAt(place, { performMs: 3 });
      await killed.killAfter("done", 40);
      const after = await place.open();
      const finished = new Set(killed.names("done"));
      // The outcome of the last task that ended may not have been written: that task comes again later.
      await performUntil(after, async (seen) => {
        const { ready, running } = await after.tasks.depth();
        return ready + running === 0 && names.every((name) => seen.has(name) || finished.has(name));
      });
      await after.close();
    },
  );
}
