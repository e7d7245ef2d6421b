/** Waiting in line, permits, locks and signals: what everybody who shares something bounded relies on. */
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { describe, test } from "node:test";
import { array, assert as assertProperty, asyncProperty, boolean, integer, record } from "fast-check";
import { childSignal, delayedSignal, onAbort, unlessAborted, untilAborted } from "../shared/concurrency/abort.ts";
import { keyedSemaphore } from "../shared/concurrency/keyed-semaphore.ts";
import { type Permit, semaphore } from "../shared/concurrency/semaphore.ts";
import { waitingLine } from "../shared/concurrency/waiting-line.ts";
import { wakeup } from "../shared/concurrency/wakeup.ts";
import { Problem } from "../shared/contract/problem.ts";
import { eventually } from "./servers/waiting.ts";

const reason = () => new DOMException("called off", "AbortError");
const listeners = (signal: AbortSignal) => getEventListeners(signal, "abort").length;
const turned = () => new Promise((resolve) => setImmediate(resolve));

/** Acquires in the background; `held` are the permits there are, by the order of asking. */
function asking(acquire: () => Promise<Permit>, count: number) {
  const held: (Permit | undefined)[] = [];
  const refused: unknown[] = [];
  const order: number[] = [];
  for (let n = 0; n < count; n++) {
    const keep = (permit: Permit) => {
      held[n] = permit;
      order.push(n);
    };
    acquire()
      .then(keep)
      .catch((error: unknown) => refused.push(error));
  }
  return { held, refused, order };
}

describe("a semaphore", () => {
  test("lets so many in at once, the others in the order they came", async () => {
    const places = semaphore(3);
    const { held, order } = asking(() => places.acquire({}), 6);
    await turned();
    assert.deepEqual(order, [0, 1, 2]);
    assert.equal(places.waiting, 3);
    for (const n of [2, 0, 1]) held[n]?.release();
    await turned();
    assert.deepEqual(order, [0, 1, 2, 3, 4, 5]);
    for (const permit of held) permit?.release();
    assert.ok(places.isIdle);
  });

  test("a permit that is released twice, or disposed and released, frees one place only", async () => {
    const places = semaphore(1);
    const permit = await places.acquire({});
    const { order } = asking(() => places.acquire({}), 2);
    permit.release();
    permit[Symbol.dispose]();
    permit.release();
    await turned();
    assert.deepEqual(order, [0]);
  });

  test("`using` gives the place back, also when the work throws", async () => {
    const places = semaphore(1);
    const work = async () => {
      using _ = await places.acquire({});
      throw new Error("the work failed");
    };
    await assert.rejects(work(), /the work failed/);
    assert.ok(places.isIdle);
  });

  test("who is called off while waiting leaves the line, without a listener left and without a place lost", async () => {
    const places = semaphore(1);
    const stop = new AbortController();
    const first = await places.acquire({}, stop.signal);
    const gone = asking(() => places.acquire({}, stop.signal), 50);
    const staying = asking(() => places.acquire({}), 1);
    assert.equal(listeners(stop.signal), 50);
    stop.abort(reason());
    await turned();
    assert.equal(gone.refused.length, 50);
    assert.ok(gone.refused.every((error) => error === stop.signal.reason));
    assert.deepEqual([listeners(stop.signal), places.waiting], [0, 1]);
    first.release();
    await turned();
    assert.deepEqual(staying.order, [0]);
    staying.held[0]?.release();
    assert.ok(places.isIdle);
  });

  test("whoever asks with a signal that has aborted gets nothing, although there is room", async () => {
    const places = semaphore(1);
    await assert.rejects(places.acquire({}, AbortSignal.abort(reason())), { name: "AbortError" });
    assert.ok(places.isIdle);
  });

  test("who is admitted and called off at the same moment holds a permit, which is not lost", async () => {
    const places = semaphore(1);
    const stop = new AbortController();
    const first = await places.acquire({});
    const second = places.acquire({}, stop.signal);
    first.release();
    stop.abort(reason());
    (await second).release();
    assert.ok(places.isIdle);
  });

  test("past its deadline a wait is refused with the given error, by default a `timeout` Problem, and the next one follows", async () => {
    const places = semaphore(1);
    const stop = new AbortController();
    const first = await places.acquire({});
    await assert.rejects(places.acquire({ ms: 5 }, stop.signal), (e) => e instanceof Problem && e.code === "timeout");
    await assert.rejects(places.acquire({ ms: 5, late: () => new Error("too late") }), /too late/);
    assert.deepEqual([places.waiting, listeners(stop.signal)], [0, 0]);
    first.release();
    (await places.acquire({ ms: 5 })).release();
  });

  test("weights count; a small one does not overtake a large one that waits before it", async () => {
    const bytes = semaphore(10);
    const six = await bytes.acquire({ weight: 6 });
    const large = asking(() => bytes.acquire({ weight: 8 }), 1);
    const small = asking(() => bytes.acquire({ weight: 1 }), 1);
    await turned();
    assert.deepEqual([large.order.length, small.order.length, bytes.tryAcquire(1)], [0, 0, undefined]);
    six.release();
    await turned();
    assert.deepEqual([large.order.length, small.order.length], [1, 1]);
  });

  test("when a large one stops waiting, the small ones behind it that fit are let in at once", async () => {
    const bytes = semaphore(10);
    const stop = new AbortController();
    await bytes.acquire({ weight: 6 });
    const large = asking(() => bytes.acquire({ weight: 8 }, stop.signal), 1);
    const late = asking(() => bytes.acquire({ weight: 8, ms: 5 }), 1);
    const small = asking(() => bytes.acquire({ weight: 2 }), 3);
    stop.abort(reason());
    await eventually(() => small.order.length === 2, "those that fit");
    assert.deepEqual([large.refused.length, late.refused.length, bytes.waiting], [1, 1, 1]);
  });

  test("a weight above the whole has it alone: it waits for all before it, and all after it wait", async () => {
    const bytes = semaphore(10);
    const one = await bytes.acquire({ weight: 1 });
    const huge = asking(() => bytes.acquire({ weight: 1000 }), 1);
    const after = asking(() => bytes.acquire({ weight: 1 }), 1);
    await turned();
    assert.deepEqual([huge.order.length, after.order.length], [0, 0]);
    one.release();
    await turned();
    assert.deepEqual([huge.order.length, after.order.length], [1, 0]);
    huge.held[0]?.release();
    await turned();
    assert.equal(after.order.length, 1);
    after.held[0]?.release();
    assert.ok(bytes.isIdle);
  });

  test("a larger size lets those in who wait; after a smaller one nobody enters until it is kept", async () => {
    const places = semaphore(1);
    const { held, order } = asking(() => places.acquire({}), 4);
    places.resize(3);
    await turned();
    assert.deepEqual(order, [0, 1, 2]);
    places.resize(1);
    held[0]?.release();
    held[1]?.release();
    await turned();
    assert.equal(order.length, 3);
    held[2]?.release();
    await turned();
    assert.equal(order.length, 4);
  });

  test("whatever is asked, called off and released in whatever order: never too much at once, nobody left behind", async () => {
    const action = record({
      weight: integer({ min: 1, max: 14 }),
      calledOff: boolean(),
      steps: integer({ min: 0, max: 3 }),
    });
    await assertProperty(
      asyncProperty(array(action, { minLength: 1, maxLength: 40 }), async (actions) => {
        const size = 10;
        const bytes = semaphore(size);
        let used = 0;
        let admitted = 0;
        const ends = actions.map(async ({ weight, calledOff, steps }) => {
          const stop = new AbortController();
          const acquired = bytes.acquire({ weight }, stop.signal);
          if (calledOff) stop.abort(reason());
          const permit = await acquired.catch(() => undefined);
          if (!permit) return assert.equal(listeners(stop.signal), 0);
          used += weight;
          admitted += 1;
          assert.ok(used <= size || used === weight, `${used} at once`);
          for (let step = 0; step < steps; step++) await turned();
          used -= weight;
          permit.release();
          permit.release();
          return assert.equal(listeners(stop.signal), 0);
        });
        await Promise.all(ends);
        assert.ok(admitted >= actions.filter(({ calledOff }) => !calledOff).length);
        assert.ok(bytes.isIdle);
      }),
      { numRuns: 60 },
    );
  });
});

describe("a semaphore for each key", () => {
  test("one key's holders keep nobody with another key waiting, and memory follows the keys in use", async () => {
    const locks = keyedSemaphore(1);
    const stop = new AbortController();
    const a = await locks.acquire("a", {});
    const second = asking(() => locks.acquire("a", {}), 1);
    const gone = asking(() => locks.acquire("a", {}, stop.signal), 1);
    const b = await locks.acquire("b", {});
    assert.equal(locks.tryAcquire("b"), undefined);
    assert.deepEqual([locks.keys, locks.waiting("a"), locks.waiting("b")], [2, 2, 0]);
    stop.abort(reason());
    a.release();
    a.release();
    b.release();
    await turned();
    assert.deepEqual([second.order.length, gone.refused.length, locks.keys], [1, 1, 1]);
    second.held[0]?.release();
    assert.equal(locks.keys, 0);
  });

  test("a late second release of a key that is in use again frees nothing", async () => {
    const locks = keyedSemaphore(1);
    const first = await locks.acquire("a", {});
    first.release();
    const second = await locks.acquire("a", {});
    first.release();
    assert.equal(locks.tryAcquire("a"), undefined);
    second.release();
    assert.equal(locks.keys, 0);
  });

  test("the size may differ by key, and change with each one who asks", async () => {
    const places = keyedSemaphore(2);
    const { order } = asking(() => places.acquire("a", { size: 1 }), 3);
    await turned();
    assert.equal(order.length, 1);
    const more = asking(() => places.acquire("a", { size: 4 }), 1);
    await turned();
    assert.deepEqual([order.length, more.order.length], [3, 1]);
  });

  test("a wait that is refused leaves no key behind", async () => {
    const locks = keyedSemaphore(1);
    await assert.rejects(locks.acquire("a", {}, AbortSignal.abort(reason())));
    const held = await locks.acquire("b", {});
    await assert.rejects(locks.acquire("b", { ms: 1 }));
    held.release();
    assert.equal(locks.keys, 0);
  });
});

describe("a waiting line", () => {
  test("its owner sees who waits, admits each with a value, and hears who left by himself", async () => {
    let left = 0;
    const line = waitingLine<string, number>(() => (left += 1));
    const stop = new AbortController();
    const one = line.wait("one", {}, stop.signal);
    const two = line.wait("two", {});
    assert.deepEqual([line.size, line.first()?.about], [2, "one"]);
    stop.abort(reason());
    await assert.rejects(one, { name: "AbortError" });
    assert.deepEqual([line.size, line.first()?.about, left], [1, "two", 1]);
    line.first()?.admit(7);
    assert.deepEqual([await two, line.size, line.first(), left], [7, 0, undefined, 1]);
  });
});

describe("a wake-up", () => {
  test("ends a wait at once, and one that came before the wait is not lost", async () => {
    const bell = wakeup();
    const never = new AbortController().signal;
    const waiting = bell.wait(60_000, never);
    bell.trigger();
    assert.equal(await waiting, "triggered");
    bell.trigger();
    bell.trigger();
    assert.equal(await bell.wait(60_000, never), "triggered");
    assert.equal(await bell.wait(1, never), "elapsed");
    assert.equal(listeners(never), 0);
  });

  test("the signal ends the wait, before it and in it", async () => {
    const bell = wakeup();
    const stop = new AbortController();
    const waiting = bell.wait(60_000, stop.signal);
    stop.abort(reason());
    assert.deepEqual([await waiting, await bell.wait(60_000, stop.signal)], ["aborted", "aborted"]);
  });
});

describe("signals", () => {
  test("a listener hears an abort once, at once if it was before, and not after its disposal", () => {
    const heard: string[] = [];
    const stop = new AbortController();
    {
      using _ = onAbort(stop.signal, () => heard.push("disposed"));
      assert.equal(listeners(stop.signal), 1);
    }
    assert.equal(listeners(stop.signal), 0);
    onAbort(stop.signal, () => heard.push("in time"));
    stop.abort(reason());
    onAbort(stop.signal, () => heard.push("late"));
    assert.deepEqual(heard, ["in time", "late"]);
  });

  test("a wait settles with its work, or rejects with the reason of the abort; either way no listener stays", async () => {
    const stop = new AbortController();
    assert.equal(await unlessAborted(Promise.resolve(1), stop.signal), 1);
    await assert.rejects(unlessAborted(Promise.reject(new Error("broken")), stop.signal), /broken/);
    assert.equal(listeners(stop.signal), 0);
    const work = Promise.withResolvers<void>();
    const waiting = unlessAborted(work.promise, stop.signal);
    stop.abort(reason());
    await assert.rejects(waiting, { name: "AbortError" });
    // Nobody waits for it any more, and its failure is nobody's unhandled rejection.
    work.reject(new Error("late"));
    await turned();
    await assert.rejects(unlessAborted(Promise.resolve(1), stop.signal), { name: "AbortError" });
  });

  test("the first of several signals ends a wait for them", async () => {
    const [one, two] = [new AbortController(), new AbortController()];
    const waiting = untilAborted(one.signal, two.signal);
    two.abort();
    await waiting;
    assert.equal(listeners(one.signal), 0);
    await untilAborted(one.signal, two.signal);
  });

  test("a child aborts with any of its parents, and leaves nothing on them", () => {
    const [one, two] = [new AbortController(), new AbortController()];
    {
      using unused = childSignal(one.signal, two.signal);
      assert.equal(unused.signal.aborted, false);
    }
    assert.deepEqual([listeners(one.signal), listeners(two.signal)], [0, 0]);
    using child = childSignal(one.signal, two.signal);
    two.abort(reason());
    assert.equal(child.signal.reason, two.signal.reason);
  });

  test("a delayed signal gives the work in flight a moment, and none when it is disposed", async () => {
    const stop = new AbortController();
    using delayed = delayedSignal(stop.signal, 5);
    const unused = delayedSignal(stop.signal, 1);
    stop.abort(reason());
    unused[Symbol.dispose]();
    assert.equal(delayed.signal.aborted, false);
    await eventually(() => delayed.signal.aborted, "the end of the moment");
    assert.equal(delayed.signal.reason, stop.signal.reason);
    assert.equal(unused.signal.aborted, false);
  });
});
