/** What every store promises about locks and about refused logins. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { PasswordLogin, RefusedLogin } from "../../shared/contract/login.ts";
import { Secret } from "../../shared/contract/secret.ts";
import { quoteWords } from "../../shared/evidence/evidence.ts";
import { isProblem } from "./mailbox-rig.ts";
import { type NewStore, withStore } from "./stores.ts";

const { signal } = new AbortController();
const LIMITS = { waitMs: 60_000, what: "The test" };
const HOUR_MS = 3_600_000;

const login = (changes: Partial<PasswordLogin> = {}): PasswordLogin => ({
  server: "imap.example.com:993",
  user: "Anna@example.com",
  password: new Secret("secret"),
  ...changes,
});
const refusedNow = (times: number): RefusedLogin => {
  const at = Date.now();
  return { times, at, until: at + HOUR_MS, cause: "It is wrong", evidence: quoteWords('NO "no"', { secrets: [] }) };
};

const never = () => Promise.reject(new Error("It was not free"));

export function loginPromises(make: NewStore): void {
  test("a lock has one holder at a time, and each key its own", () =>
    withStore(make, async ({ locks }) => {
      let [holders, most, others] = [0, 0, 0];
      const work = async () => {
        most = Math.max(most, ++holders);
        await sleep(5);
        holders -= 1;
      };
      await locks.hold(
        "a",
        LIMITS,
        async () => locks.hold("b", LIMITS, async () => void (others += 1), signal),
        signal,
      );
      await Promise.all(Array.from({ length: 20 }, () => locks.hold("a", LIMITS, work, signal)));
      assert.deepEqual([most, others], [1, 1]);
    }));

  test("a lock is released when the work throws, and its error comes through", () =>
    withStore(make, async ({ locks }) => {
      const failing = locks.hold("a", LIMITS, () => Promise.reject(new Error("no")), signal);
      await assert.rejects(failing, /^Error: no$/);
      assert.equal(await locks.hold("a", LIMITS, async () => 7, signal), 7);
    }));

  test("who waits too long for a lock, or is told to stop, stops waiting without it", () =>
    withStore(make, async ({ locks }) => {
      const { promise: released, resolve: release } = Promise.withResolvers<void>();
      const held = locks.hold("a", LIMITS, () => released, signal);
      await assert.rejects(locks.hold("a", { ...LIMITS, waitMs: 30 }, never, signal), isProblem("timeout"));
      const stop = new AbortController();
      const waiting = locks.hold("a", LIMITS, never, stop.signal);
      stop.abort(new Error("stopped"));
      await assert.rejects(waiting, /stopped/);
      release();
      await held;
      assert.equal(await locks.hold("a", LIMITS, async () => 7, signal), 7);
    }));

  test("the work in a lock is told to stop with its caller", () =>
    withStore(make, async ({ locks }) => {
      const stop = new AbortController();
      const work = (its: AbortSignal) => {
        stop.abort(new Error("stopped"));
        return its.aborted ? Promise.reject(its.reason) : Promise.resolve("not told");
      };
      await assert.rejects(locks.hold("a", LIMITS, work, stop.signal), /stopped/);
    }));

  test("a refused login is remembered for its server, user and password, whatever the case of server and user", () =>
    withStore(make, async ({ refusedLogins: refused }) => {
      assert.equal(await refused.get(login()), undefined);
      const first = refusedNow(1);
      await refused.save(login(), first);
      assert.deepEqual(await refused.get(login({ user: "ANNA@example.com", server: "IMAP.example.com:993" })), first);
      for (const other of [{ password: new Secret("Secret") }, { server: "imap.example.com:143" }, { user: "anna" }])
        assert.equal(await refused.get(login(other)), undefined);
      await refused.save(login({ password: new Secret("other") }), refusedNow(2));
      await refused.remove(login());
      assert.equal(await refused.get(login()), undefined);
      assert.equal((await refused.get(login({ password: new Secret("other") })))?.times, 2);
    }));

  test("a person's order lets the logins with a password be tried from a time after the refusal on, and counts anew", () =>
    withStore(make, async ({ refusedLogins: refused }) => {
      const [given, other] = [refusedNow(3), refusedNow(3)];
      await refused.save(login(), given);
      await refused.save(login({ user: "other" }), other);
      const otherServer = { server: "smtp.example.com:465" };
      const otherPassword = { password: new Secret("the secret of another mailbox") };
      await refused.save(login(otherServer), given);
      await refused.save(login(otherPassword), other);
      await refused.allowRetry(login({ user: "anna@EXAMPLE.com", server: "" }), 1000);
      assert.deepEqual(await refused.get(login()), { ...given, times: 0, until: given.at + 1000 });
      assert.deepEqual(await refused.get(login(otherServer)), { ...given, times: 0, until: given.at + 1000 });
      assert.deepEqual(await refused.get(login(otherPassword)), other, "who knows another password changes nothing");
      await refused.allowRetry(login(), 2 * HOUR_MS);
      assert.equal((await refused.get(login()))?.until, given.at + 1000, "an order never makes the wait longer");
      assert.deepEqual(await refused.get(login({ user: "other" })), other);
      await refused.allowRetry(login({ user: "nobody" }), 1000);
    }));
}
