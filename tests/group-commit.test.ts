/** Group commit: what shares a step, what waits for the disk, and what happens to those who share with one that fails. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { openDatabase } from "../shared/store/sqlite/database.ts";
import { groupCommit } from "../shared/store/sqlite/group-commit.ts";

/** A group over a step that is counted and a disk that is as slow as the test wants. */
function rig() {
  const [steps, waits]: [number[], { resolve: () => void; reject: (error: Error) => void }[]] = [[], []];
  let within = 0;
  const step = <T>(work: () => T): T => {
    within = 0;
    try {
      return work();
    } finally {
      steps.push(within);
    }
  };
  const sync = () => new Promise<void>((resolve, reject) => waits.push({ resolve, reject }));
  const said: string[] = [];
  const group = groupCommit({ transact: step, sync });
  const ask = (name: string, durable = false) =>
    group
      .add(() => {
        within++;
        if (name === "bad") throw new Error("bad");
        return name;
      }, durable)
      .then(
        (value) => said.push(value),
        (error: Error) => said.push(`${name}: ${error.message}`),
      );
  return { steps, waits, said, ask, group };
}

describe("waiting for the disk", () => {
  test("finds the log of a database that is reached by a link; one in memory has none", async () => {
    const directory = mkdtempSync(join(tmpdir(), "email-listener-disk-"));
    after(() => rmSync(directory, { recursive: true }));
    mkdirSync(join(directory, "elsewhere"));
    writeFileSync(join(directory, "elsewhere", "real.db"), "");
    symlinkSync(join(directory, "elsewhere", "real.db"), join(directory, "link.db"));
    for (const path of [join(directory, "link.db"), ":memory:"]) {
      const database = openDatabase(path);
      const one = await database.transactGroupedDurably(() => database.run("insert into meta values ('one', 1)"));
      assert.equal(one, 1);
      database.close();
    }
  });
});

describe("group commit", () => {
  test("what is asked for in one turn shares one step", async () => {
    const { steps, said, ask } = rig();
    await Promise.all([ask("a"), ask("b"), ask("c")]);
    assert.deepEqual(steps, [3]);
    assert.deepEqual(said, ["a", "b", "c"]);
  });

  test("who must be on the disk waits for it, the others do not", async () => {
    const { waits, said, ask } = rig();
    const durable = ask("durable", true);
    await ask("quick");
    await turn();
    assert.deepEqual(said, ["quick"]);
    waits[0]!.resolve();
    await durable;
    assert.deepEqual(said, ["quick", "durable"]);
  });

  test("while the disk is busy, durable work gathers, and other work goes on", async () => {
    const { steps, waits, said, ask } = rig();
    const first = ask("first", true);
    await turn();
    const more = [ask("second", true)];
    await turn();
    more.push(ask("third", true));
    await ask("quick");
    assert.deepEqual(steps, [1, 1]);
    waits[0]!.resolve();
    await first;
    await turn();
    assert.deepEqual(steps, [1, 1, 2]);
    assert.equal(waits.length, 2);
    waits[1]!.resolve();
    await Promise.all(more);
    assert.deepEqual(said, ["quick", "first", "second", "third"]);
  });

  test("one that throws rejects alone", async () => {
    const { steps, waits, said, ask } = rig();
    const all = Promise.all([ask("a"), ask("bad"), ask("b", true)]);
    await turn();
    waits[0]!.resolve();
    await all;
    assert.deepEqual(said.toSorted(), ["a", "b", "bad: bad"]);
    assert.deepEqual(steps, [2, 1, 1, 1]);
  });

  test("where the disk refuses, all that waited for it are told, and the next ones wait for it again", async () => {
    const { waits, said, ask } = rig();
    const both = Promise.all([ask("a", true), ask("b", true)]);
    await turn();
    waits[0]!.reject(new Error("broken"));
    await both;
    assert.deepEqual(said, ["a: broken", "b: broken"]);
    const next = ask("c", true);
    await turn();
    waits[1]!.resolve();
    await next;
    assert.deepEqual(said, ["a: broken", "b: broken", "c"]);
  });

  test("a close does what is waiting at once", async () => {
    const { steps, said, ask, group } = rig();
    const both = Promise.all([ask("a"), ask("b", true)]);
    const { saved } = group.close();
    assert.deepEqual(steps, [2]);
    saved();
    await both;
    assert.deepEqual(said, ["a", "b"]);
  });
});
