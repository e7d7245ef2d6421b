/** What leases promise, whatever they are made of. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Lease, Leases } from "../../api/lease/lease.ts";
import { eventually } from "../servers/waiting.ts";

/** The leases of a new node among those made before in the same test, and what ends them all. */
export type NewLeases = () => Promise<{ leases: Leases; end(): Promise<void> }>;

const never = new AbortController().signal;

/** A holder that holds until it is let go. */
function holder(leases: Leases, key: string, signal: AbortSignal = never) {
  const go = Promise.withResolvers<void>();
  let lease: Lease | undefined;
  const held = leases.hold(
    key,
    async (mine) => {
      lease = mine;
      await go.promise;
      return mine.fence;
    },
    signal,
  );
  held.catch(() => undefined);
  return { held, go: () => go.resolve(), holds: () => lease !== undefined, lease: () => lease };
}

/** The suite: hold every implementation to it. */
export function leasePromises(name: string, make: NewLeases): void {
  const withLeases = async (use: (leases: Leases) => Promise<void>) => {
    const { leases, end } = await make();
    try {
      await use(leases);
    } finally {
      await end();
    }
  };

  describe(name, () => {
    test("work runs under a lease on its key, and its result or error comes through", () =>
      withLeases(async (leases) => {
        const key = await leases.hold("a", async (lease) => lease.key, never);
        assert.equal(key, "a");
        const failing = leases.hold("a", () => Promise.reject(new RangeError("of the work")), never);
        await assert.rejects(failing, RangeError);
        assert.equal(await leases.hold("a", async () => "free again", never), "free again");
      }));

    test("a key has one holder at a time, and each a newer fence", () =>
      withLeases(async (leases) => {
        let holding = 0;
        const fences: number[] = [];
        const hold = async () =>
          leases.hold(
            "a",
            async ({ fence }) => {
              assert.equal(++holding, 1);
              fences.push(fence);
              await sleep(2);
              holding--;
            },
            never,
          );
        await Promise.all(Array.from({ length: 10 }, hold));
        assert.equal(fences.length, 10);
        assert.deepEqual(
          fences,
          [...new Set(fences)].toSorted((a, b) => a - b),
        );
      }));

    test("different keys are held side by side", () =>
      withLeases(async (leases) => {
        const [a, b] = [holder(leases, "a"), holder(leases, "b")];
        await eventually(() => a.holds() && b.holds(), "both holders");
        a.go();
        b.go();
        await Promise.all([a.held, b.held]);
      }));

    test("who is told to stop while waiting stops waiting, and does not hold up those behind", () =>
      withLeases(async (leases) => {
        const stopper = new AbortController();
        const first = holder(leases, "a");
        await eventually(first.holds, "the first holder");
        const second = holder(leases, "a", stopper.signal);
        const third = holder(leases, "a");
        stopper.abort(new DOMException("stopping", "AbortError"));
        await assert.rejects(second.held, { name: "AbortError" });
        assert.equal(third.holds(), false, "the first one still holds it");
        first.go();
        await eventually(third.holds, "the third holder");
        third.go();
        await third.held;
        assert.equal(second.holds(), false);
      }));

    test("a lease ends with the signal it was asked under", () =>
      withLeases(async (leases) => {
        const stopper = new AbortController();
        const one = holder(leases, "a", stopper.signal);
        await eventually(one.holds, "the holder");
        assert.equal(one.lease()?.signal.aborted, false);
        stopper.abort();
        assert.equal(one.lease()?.signal.aborted, true);
        one.go();
        await one.held;
        await assert.rejects(
          leases.hold("a", async () => undefined, stopper.signal),
          { name: "AbortError" },
        );
        await leases.hold("a", async () => undefined, never);
      }));
  });
}
