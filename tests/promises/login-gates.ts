/** What the gate of passwords promises, over the gates of one node or of several. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Problem } from "../../shared/contract/problem.ts";
import { quoteWords } from "../../shared/evidence/evidence.ts";
import { Secret } from "../../shared/contract/secret.ts";
import type { LoginGate, Shown } from "../../shared/mail/net/login-gate.ts";
import { isProblem } from "./mailbox-rig.ts";
import { eventually } from "../servers/waiting.ts";

const { signal } = new AbortController();

/** Gates that know of each other; `waitMs` is the wait after a refused login. */
export type NewGates = (waitMs: number) => Promise<LoginGate[]>;

let users = 0;
const newLogin = (user = `user${++users}@example.com`, password = "secret") => ({
  server: "mail.example.com:993",
  user,
  password: new Secret(password),
});

/** A server with one password, slow to answer, that counts what it is shown. */
function server(password: string) {
  const shown: string[] = [];
  let [busy, most] = [0, 0];
  const answer = async (given: string): Promise<Shown<string>> => {
    shown.push(given);
    most = Math.max(most, ++busy);
    await sleep(20);
    busy -= 1;
    if (given !== password)
      throw new Problem("auth", "It is wrong", { retry: "never", evidence: quoteWords("NO", { secrets: [] }) });
    return { value: "in", accepted: true };
  };
  return { shown, answer, most: () => most };
}

const show = (gate: LoginGate, login: ReturnType<typeof newLogin>, work: () => Promise<Shown<string>>) =>
  gate.show(login, work, {}, signal);
const failing = () => Promise.reject(new Problem("unavailable", "Later"));

export function loginGatePromises(name: string, make: NewGates): void {
  describe(name, () => {
    test("a wrong password is shown once by all that log in at once, and all are told the same", async () => {
      const gates = await make(60_000);
      const { shown, answer } = server("right");
      const login = newLogin();
      const attempts = gates.flatMap((gate) =>
        Array.from({ length: 10 }, () => show(gate, login, () => answer("wrong"))),
      );
      for (const attempt of await Promise.allSettled(attempts)) {
        assert.equal(attempt.status, "rejected");
        const { reason } = attempt as PromiseRejectedResult;
        assert.ok(isProblem("auth")(reason) && reason instanceof Problem);
        assert.deepEqual([reason.message, reason.evidence], ["It is wrong", "NO"]);
        const told = gates.map((gate) => gate.refusalOf(reason)).find((one) => one !== undefined);
        assert.equal(told?.times, 1);
        assert.ok(told.until > Date.now() + 30_000);
      }
      assert.equal(shown.length, 1);
    });

    test("who was refused without a try may try later, soon enough after a person has corrected the login", async () => {
      const [gate, other = gate] = await make(10 * 60_000);
      assert.ok(gate && other);
      const { answer } = server("right");
      const login = newLogin();
      await assert.rejects(
        show(gate, login, () => answer("wrong")),
        isProblem("auth", "never"),
      );
      const refused: unknown = await show(other, login, () => answer("wrong")).catch((error: unknown) => error);
      assert.ok(refused instanceof Problem && refused.retry instanceof Date);
      const ms = refused.retry.getTime() - Date.now();
      assert.ok(ms > 0 && ms <= 10 * 60_000, String(ms));
    });

    test("a good password lets everybody in, one after the other", async () => {
      const gates = await make(60_000);
      const { shown, answer, most } = server("right");
      const login = newLogin();
      await Promise.all(
        gates.flatMap((gate) => Array.from({ length: 5 }, () => show(gate, login, () => answer("right")))),
      );
      assert.deepEqual([shown.length, most()], [5 * gates.length, 1]);
    });

    test("a refused password is shown again when its wait is over, and after the third refusal once a day", async () => {
      const gates = await make(1);
      const { shown, answer } = server("right");
      const login = newLogin();
      for (let n = 0; n < 12; n++) {
        const [gate = gates[0]] = [gates[n % gates.length]];
        assert.ok(gate);
        await assert.rejects(
          show(gate, login, () => answer("wrong")),
          isProblem("auth"),
        );
        await sleep(5);
      }
      assert.equal(shown.length, 3);
    });

    test("another password, another user and another server are not concerned", async () => {
      const [gate, other = gate] = await make(60_000);
      assert.ok(gate && other);
      const { answer } = server("right");
      const login = newLogin();
      await assert.rejects(show(gate, login, () => answer("wrong")));
      const others = [{ ...login, password: new Secret("right") }, newLogin(), { ...login, server: "elsewhere:993" }];
      for (const one of others) assert.equal(await show(other, one, () => answer("right")), "in");
      await assert.rejects(
        show(other, login, () => answer("right")),
        isProblem("auth"),
      );
    });

    test("only a refusal counts: what fails in another way is the caller's to try again, and forgets no refusal", async () => {
      const [gate, other = gate] = await make(1);
      assert.ok(gate && other);
      const login = newLogin();
      const { answer } = server("right");
      await assert.rejects(show(gate, login, () => answer("wrong")));
      await sleep(5);
      for (const _ of [1, 2, 3]) await assert.rejects(show(other, login, failing), isProblem("unavailable", "later"));
      assert.equal(await show(gate, login, async () => ({ value: "no proof", accepted: false })), "no proof");
      const refused: unknown = await show(other, login, () => answer("wrong")).catch((error: unknown) => error);
      assert.ok(refused instanceof Problem);
      assert.equal(other.refusalOf(refused)?.times, 2);
    });

    test("a password that is accepted in the end has no refusals any more", async () => {
      const [gate, other = gate] = await make(1);
      assert.ok(gate && other);
      const login = newLogin();
      const { answer } = server("right");
      for (const password of ["wrong", "wrong", "right", "wrong"]) {
        await show(gate, login, () => answer(password)).catch(() => undefined);
        await sleep(5);
      }
      const refused: unknown = await show(other, login, () => answer("wrong")).catch((error: unknown) => error);
      assert.ok(refused instanceof Problem);
      assert.equal(other.refusalOf(refused)?.times, 2);
    });

    test("an attempt that a person orders is made at once, but not for each of several orders at the same time", async () => {
      const [gate, other = gate] = await make(60_000);
      assert.ok(gate && other);
      const login = newLogin();
      const { shown, answer } = server("right");
      await assert.rejects(show(gate, login, () => answer("wrong")));
      const personal = [gate.forPerson(), other.forPerson()];
      await Promise.allSettled(personal.map((one) => show(one, login, () => answer("wrong"))));
      assert.equal(shown.length, 2);
      await assert.rejects(
        show(gate, login, () => answer("wrong")),
        isProblem("auth"),
      );
      assert.equal(await show(other.forPerson(), login, () => answer("right")), "in");
      assert.equal(await show(gate, login, () => answer("right")), "in");
    });

    test("who stops waiting shows nothing, and holds nobody up", async () => {
      const gates = await make(60_000);
      const [gate, other = gate] = gates;
      assert.ok(gate && other);
      const login = newLogin();
      const { promise: answered, resolve } = Promise.withResolvers<Shown<string>>();
      const first = show(gate, login, () => answered);
      const stop = new AbortController();
      const stopped = other.show(login, () => Promise.reject(new Error("It was shown")), {}, stop.signal);
      stop.abort(new Error("stopped"));
      await assert.rejects(stopped, /stopped/);
      resolve({ value: "in", accepted: true });
      assert.deepEqual([await first, await show(other, login, () => answered)], ["in", "in"]);
    });

    test("while a password is known to be good, a slow answer holds up the others for a moment only", async () => {
      const [gate] = await make(60_000);
      assert.ok(gate);
      const login = newLogin();
      const answers: PromiseWithResolvers<Shown<string>>[] = [];
      const ask = (overlapMs: number) => {
        const answer = Promise.withResolvers<Shown<string>>();
        return gate.show(
          login,
          () => {
            answers.push(answer);
            return answer.promise;
          },
          { overlapMs },
          signal,
        );
      };
      const first = ask(1);
      const second = ask(1);
      await eventually(() => answers.length > 0, "the first request", 60_000, 5);
      await sleep(50);
      assert.equal(answers.length, 1, "the first answer is waited for");
      answers[0]?.resolve({ value: "1", accepted: true });
      const third = ask(1);
      await eventually(() => answers.length === 3, "the other two", 60_000, 5);
      for (const answer of answers) answer.resolve({ value: "in", accepted: true });
      assert.deepEqual(await Promise.all([first, second, third]), ["1", "in", "in"]);
    });
  });
}
