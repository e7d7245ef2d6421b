/** The gate before a mail host: how many connections pass at once, in which order, and what refusals change. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { loginRateLimiter } from "../shared/mail/net/login-rate.ts";
import { movableClock } from "./clock.ts";

const never = new AbortController().signal;

/** Asks so many times; `passed` are those that were let in, by their number. */
function asking(gate: ReturnType<typeof loginRateLimiter>, host: string, count: number, signal = never) {
  const passed: number[] = [];
  const refused: unknown[] = [];
  for (let n = 0; n < count; n++) {
    gate.wait(host, signal).then(
      () => passed.push(n),
      (error: unknown) => refused.push(error),
    );
  }
  return { passed, refused };
}

const turned = () => new Promise((resolve) => setImmediate(resolve));

const clock = movableClock();
after(() => clock[Symbol.dispose]());
/** Lets so many seconds pass, a tenth at a time. */
const pass = async (seconds: number) => {
  for (let tenths = 0; tenths < 10 * seconds; tenths++) await clock.advance(100);
};

describe("admission gate", () => {
  test("twenty connections to a host pass at once, the others in the order they came", async () => {
    const gate = loginRateLimiter(100);
    const { passed } = asking(gate, "a.example", 40);
    await turned();
    assert.ok(passed.length >= 20 && passed.length < 40, `${passed.length} passed at once`);
    await pass(2);
    assert.equal(passed.length, 40);
    assert.deepEqual(
      passed,
      Array.from({ length: 40 }, (_, n) => n),
    );
  });

  test("a host that turns connections away gets fewer, and no other host does", async () => {
    const gate = loginRateLimiter(100);
    await gate.wait("full.example", never);
    for (let n = 0; n < 10; n++) gate.report("full.example", false);
    const few = asking(gate, "full.example", 20);
    const many = asking(gate, "free.example", 20);
    await turned();
    assert.equal(many.passed.length, 20);
    assert.ok(few.passed.length < 3, `${few.passed.length} passed`);
    for (let n = 0; n < 50; n++) gate.report("full.example", true);
    await pass(10);
    assert.equal(few.passed.length, 20, "the host is trusted again");
  });

  test("who stops waiting is told why and holds up nobody", async () => {
    const gate = loginRateLimiter(10);
    const stop = new AbortController();
    const gone = asking(gate, "a.example", 60, stop.signal);
    const left = asking(gate, "a.example", 1);
    await turned();
    stop.abort(new Error("not wanted any more"));
    await pass(10);
    assert.equal(left.passed.length, 1, "the next in the queue");
    assert.equal(gone.passed.length + gone.refused.length, 60);
    assert.ok(gone.refused.length > 40);
    await assert.rejects(gate.wait("a.example", stop.signal), /not wanted any more/);
  });
});
