/** Mail that goes out through servers that fail, from a service that is killed: never two copies, and `unknown` only where nobody can know. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Deed, Step } from "./servers/smtp-script.ts";
import { type Outgoing, outgoing } from "./stories/outgoing.ts";

/** What a fault at a step, once, leads to in the end, and how many copies the server has taken then. */
type Case = { step: Step; deed: string; ends: "sent" | "failed" | "unknown"; copies: 0 | 1 };

const CASES: Case[] = [
  { step: "greeting", deed: "421 4.3.2 come back later", ends: "sent", copies: 1 },
  { step: "greeting", deed: "554 5.7.1 not from your address", ends: "failed", copies: 0 },
  { step: "greeting", deed: "drop", ends: "sent", copies: 1 },
  { step: "ehlo", deed: "421 4.3.2 shutting down", ends: "sent", copies: 1 },
  { step: "ehlo", deed: "502 what is EHLO", ends: "sent", copies: 1 },
  { step: "ehlo", deed: "drop", ends: "sent", copies: 1 },
  { step: "auth", deed: "454 4.7.0 temporary authentication failure", ends: "sent", copies: 1 },
  { step: "auth", deed: "535 5.7.8 bad credentials", ends: "failed", copies: 0 },
  { step: "auth", deed: "drop", ends: "sent", copies: 1 },
  { step: "mail", deed: "451 4.3.0 try again", ends: "sent", copies: 1 },
  { step: "mail", deed: "550 5.7.1 not you", ends: "failed", copies: 0 },
  { step: "mail", deed: "drop", ends: "sent", copies: 1 },
  { step: "rcpt", deed: "450 4.2.0 greylisted", ends: "sent", copies: 1 },
  { step: "rcpt", deed: "550 5.1.1 no such user", ends: "failed", copies: 0 },
  { step: "rcpt", deed: "drop", ends: "sent", copies: 1 },
  { step: "data", deed: "451 4.3.0 try again", ends: "sent", copies: 1 },
  { step: "data", deed: "554 5.6.0 no", ends: "failed", copies: 0 },
  { step: "data", deed: "drop", ends: "sent", copies: 1 },
  { step: "end", deed: "451 4.3.0 disk full", ends: "sent", copies: 1 },
  { step: "end", deed: "554 5.7.1 spam", ends: "failed", copies: 0 },
  { step: "end", deed: "drop", ends: "unknown", copies: 0 },
  { step: "taken", deed: "drop", ends: "unknown", copies: 1 },
];

/** Plays the deed at the first moment of this step from now on. */
function once(s: Outgoing, step: Step, deed: Deed): void {
  let done = false;
  s.smtp.play((moment) => {
    if (done || moment.step !== step) return undefined;
    done = true;
    return deed;
  });
}

for (const pipelining of [true, false]) {
  describe(`a mail server ${pipelining ? "with" : "without"} PIPELINING that fails once`, () => {
    let s: Outgoing;
    before(async () => {
      s = await outgoing({}, { pipelining });
    });
    after(() => s.end());

    for (const { step, deed, ends, copies } of CASES) {
      test(`at ${step} with ${deed}: the message is ${ends}, and the server has it ${copies === 1 ? "once" : "not"}`, async () => {
        const { id } = await s.sender();
        const earlier = s.smtp.taken.length;
        once(s, step, deed);
        const answer = await s.send(id, { subject: `${step} ${deed}` });
        assert.equal(answer.status, 202, JSON.stringify(answer.body));
        const sending = await s.until(answer.body.id, ends);
        const reply = /^\d/.test(deed) ? deed.slice(4) : "";
        if (ends === "failed") assert.ok(sending.reason.includes(reply), `the server's words are in ${sending.reason}`);
        if (ends !== "sent") assert.equal(sending.recipients[0].state, ends);
        // Time for a second copy, were there one.
        await new Promise((resolve) => setTimeout(resolve, ends === "unknown" ? 400 : 20));
        assert.equal(s.smtp.taken.length - earlier, copies);
      });
    }

    test("at the beginning of the body: sent or unknown, but never two copies", async () => {
      const { id } = await s.sender();
      const earlier = s.smtp.taken.length;
      once(s, "body", "drop");
      const { body } = await s.send(id);
      const end = await s.service.until("an end", async () => {
        const { body: now } = await s.service.call("GET", `/api/v1/messages/${body.id}`);
        return now.state !== "queued" && now.state;
      });
      assert.equal(s.smtp.taken.length - earlier, end === "sent" ? 1 : 0, end);
    });

    test("recipients refused for now are tried again alone, those refused for good are named, nobody gets two", async () => {
      const { id } = await s.sender();
      const earlier = s.smtp.taken.length;
      let deferred = 0;
      s.smtp.play(({ step, line }) => {
        if (step === "rcpt" && line.includes("never@")) return "550 5.1.1 no such user";
        return step === "rcpt" && line.includes("later@") && deferred++ === 0 ? "450 4.2.1 later" : undefined;
      });
      const to = ["now@example.net", "later@example.net", "never@example.net"];
      const { body } = await s.send(id, { to: to.slice(0, 1), cc: to.slice(1, 2), bcc: to.slice(2) });
      const sending = await s.until(body.id, "failed");
      assert.deepEqual(
        sending.recipients.map(({ state }: { state: string }) => state),
        ["sent", "sent", "failed"],
      );
      assert.match(sending.recipients[2].response, /no such user/);
      const copies = s.smtp.taken.slice(earlier);
      assert.deepEqual(
        copies.map((one) => one.to),
        [["now@example.net"], ["later@example.net"]],
      );
      assert.equal(copies[0]?.raw, copies[1]?.raw, "the same bytes in every attempt");
      assert.ok(!copies[0]?.raw.includes("never@example.net"), "Bcc is in the envelope only");
    });
  });
}

describe("a mail server that falls silent", () => {
  let s: Outgoing;
  before(async () => {
    s = await outgoing({ COMMAND_TIMEOUT_SECONDS: "0.2" });
  });
  after(() => s.end());

  for (const [step, ends, copies] of [
    ["greeting", "sent", 1],
    ["auth", "sent", 1],
    ["rcpt", "sent", 1],
    ["end", "unknown", 0],
    ["taken", "unknown", 1],
  ] as const) {
    test(`at ${step}: the message is ${ends} in the end`, async () => {
      const { id } = await s.sender();
      const earlier = s.smtp.taken.length;
      once(s, step, "hang");
      const { body } = await s.send(id);
      await s.until(body.id, ends, 30_000);
      assert.equal(s.smtp.taken.length - earlier, copies);
    });
  }
});

describe("a service that is killed while it sends", () => {
  let s: Outgoing;
  before(async () => {
    s = await outgoing();
  });
  after(() => s.end());

  const afterwards: [Step, Deed, "sent" | "unknown", 0 | 1][] = [
    ["greeting", "hang", "sent", 1],
    ["ehlo", "hang", "sent", 1],
    ["auth", "hang", "sent", 1],
    ["mail", "hang", "sent", 1],
    ["rcpt", "hang", "sent", 1],
    ["data", "hang", "sent", 1],
    ["body", "stall", "sent", 1],
    ["end", "hang", "unknown", 0],
    ["taken", "hang", "unknown", 1],
  ];
  for (const [step, deed, ends, copies] of afterwards) {
    test(`with kill -9 at ${step}: the message is ${ends} after the restart, and the server has it ${copies === 1 ? "once" : "not"}`, async () => {
      const { id } = await s.sender();
      const earlier = s.smtp.taken.length;
      once(s, step, deed);
      const reached = s.smtp.reached(step);
      // More than the buffers of a connection hold, so that a stalled one cannot be ended.
      const text = step === "body" ? "A line of a long letter.\r\n".repeat(600_000) : "Hello";
      const { body, status } = await s.send(id, { text });
      assert.equal(status, 202, JSON.stringify(body));
      await reached;
      await new Promise((resolve) => setTimeout(resolve, 100));
      await s.service.kill();
      await s.service.start();
      const sending = await s.until(body.id, ends);
      if (ends === "unknown") assert.match(sending.reason, /handed over/);
      await new Promise((resolve) => setTimeout(resolve, 400));
      assert.equal(s.smtp.taken.length - earlier, copies);
      assert.equal((await s.service.call("GET", `/api/v1/messages/${body.id}`)).body.state, ends);
    });
  }

  test("with kill -9 in the middle of many: each is sent once or unknown, and no copy is there twice", async () => {
    const { id } = await s.sender();
    const earlier = s.smtp.taken.length;
    s.smtp.play(async ({ step }) => {
      if (step === "end") await new Promise((resolve) => setTimeout(resolve, 5));
      return undefined;
    });
    const ids: string[] = [];
    for (let n = 0; n < 60; n++) ids.push((await s.send(id, { subject: `Number ${n}` }, { key: `n${n}` })).body.id);
    for (let kills = 0; kills < 3; kills++) {
      await s.smtp.waitFor(Math.min(s.smtp.taken.length + 5, earlier + 60)).catch(() => undefined);
      await s.service.kill();
      await s.service.start();
    }
    const ends = await s.service.until("all to be over", async () => {
      const { body } = await s.service.call("GET", `/api/v1/mailboxes/${id}/messages?limit=100`);
      return body.items.every((one: any) => one.state !== "queued") && body.items;
    });
    const subjects = s.smtp.taken.slice(earlier).map(({ raw }) => /^Subject: (.*)$/m.exec(raw)?.[1]?.trim());
    assert.equal(new Set(subjects).size, subjects.length, "no subject twice");
    const sent = ends.filter((one: any) => one.state === "sent").length;
    const unknown = ends.filter((one: any) => one.state === "unknown").length;
    assert.equal(sent + unknown, 60, JSON.stringify(ends.map((one: any) => one.state)));
    assert.ok(subjects.length >= sent && subjects.length <= 60);
    assert.ok(unknown <= 2 * 3, `at most one per connection and kill: ${unknown}`);
    assert.equal(new Set(ids).size, 60);
  });
});
