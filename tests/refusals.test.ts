/** A worker asks a mail server that refused its login again only after the waits of the login schedule, or when the mailbox has changed. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { loginBackoff } from "../worker/mail/login-backoff.ts";

const byToken = { user: "a", accessToken: new Secret("token") };
const box = (revision: number, auth: object = byToken) => ({ id: "a", revision, receive: { auth } }) as Mailbox;
const soon = { login: () => 0 };
const late = { login: () => 60_000 };

/** Counts how often the server was really asked. */
function server(answer: () => void) {
  let asked = 0;
  const login = async () => {
    asked += 1;
    answer();
  };
  return { login, asked: () => asked };
}

const wrong = () => {
  throw new Problem("auth", "Invalid credentials", { retry: "never" });
};

describe("refused logins of workers", () => {
  test("a refused login is not tried again before its time, and says the same", async () => {
    const { guard } = loginBackoff(late);
    const { login, asked } = server(wrong);
    for (const _ of [1, 2, 3])
      await assert.rejects(guard(box(1), login), { code: "auth", message: "Invalid credentials" });
    assert.equal(asked(), 1);
  });

  test("after the third refusal nobody asks for a day", async () => {
    const { guard } = loginBackoff(soon);
    const { login, asked } = server(wrong);
    for (const _ of [1, 2, 3, 4, 5]) await assert.rejects(guard(box(1), login));
    assert.equal(asked(), 3);
  });

  test("a changed mailbox is asked at once, and a success forgets the refusals", async () => {
    const { guard } = loginBackoff(late);
    await assert.rejects(guard(box(1), server(wrong).login));
    const { login, asked } = server(() => undefined);
    await guard(box(2), login);
    await guard(box(2), login);
    assert.equal(asked(), 2);
  });

  test("refused passwords are not counted here, but where they are shown", async () => {
    const { guard } = loginBackoff(late);
    const { login, asked } = server(wrong);
    const mailbox = box(1, { user: "a", password: new Secret("wrong") });
    for (const _ of [1, 2]) await assert.rejects(guard(mailbox, login), { code: "auth" });
    assert.equal(asked(), 2);
  });

  test("other faults are the caller's to wait for", async () => {
    const { guard } = loginBackoff(late);
    const { login, asked } = server(() => {
      throw new Problem("connect", "refused");
    });
    for (const _ of [1, 2]) await assert.rejects(guard(box(1), login), { code: "connect" });
    assert.equal(asked(), 2);
  });
});
