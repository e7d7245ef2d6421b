/** The gate before a mail host: how many connections pass at once, in which order, and what refusals change. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { admission } from "../shared/mail/net/login-rate.ts";
import { eventually } from "./servers/waiting.ts";

const never = new AbortController().signal;

/** Asks so many times; `passed` are those that were let in, by their number. */
function asking(gate: ReturnType<typeof admission>, host: string, count: number, signal = never) {
  const passed: number[] = [];
  const refused: unknown[] = [];
  for (let n = 0; n < count; n++) {
    gate.enter(host, signal).then(
      () => passed.push(n),
      (error: unknown) => refused.push(error),
    );
  }
  return { passed, refused };
}

const turned = () => new Promise((resolve) => setImmediate(resolve));

describe("admission gate", () => {
  test("twenty connections to a host pass at once, the others in the order they came", async () => {
    const gate = admission(100);
    const { passed } = asking(gate, "a.example", 40);
    await turned();
    assert.ok(passed.length >= 20 && passed.length < 40, `${passed.length} passed at once`);
    await eventually(() => passed.length === 40, "all to pass");
    assert.deepEqual(
      passed,
      Array.from({ length: 40 }, (_, n) => n),
    );
  });

  test("a host that turns connections away gets fewer, and no other host does", async () => {
    const gate = admission(100);
    await gate.enter("full.example", never);
    for (let n = 0; n < 10; n++) gate.went("full.example", false);
    const few = asking(gate, "full.example", 20);
    const many = asking(gate, "free.example", 20);
    await turned();
    assert.equal(many.passed.length, 20);
    assert.ok(few.passed.length < 3, `${few.passed.length} passed`);
    for (let n = 0; n < 50; n++) gate.went("full.example", true);
    await eventually(() => few.passed.length === 20, "the host to be trusted again");
  });

  test("who stops waiting is told why and holds up nobody", async () => {
    const gate = admission(10);
    const stop = new AbortController();
    const gone = asking(gate, "a.example", 60, stop.signal);
    const left = asking(gate, "a.example", 1);
    await turned();
    stop.abort(new Error("not wanted any more"));
    await eventually(() => left.passed.length === 1, "the next in the queue");
    assert.equal(gone.passed.length + gone.refused.length, 60);
    assert.ok(gone.refused.length > 40);
    await assert.rejects(gate.enter("a.example", stop.signal), /not wanted any more/);
  });
});
