/** What sending promises through every real server: each recipient has one result, and everybody who can get the message gets it once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "../servers/provide.ts";
import type { SubmissionServer } from "../servers/submission.ts";
import { eventually } from "../servers/waiting.ts";
import { type Outgoing, outgoing } from "../stories/outgoing.ts";

type Start = (context: TestContext) => Promise<SubmissionServer | undefined>;

const good = (n: number) => `good${n}@example.net`;
const nobody = (n: number) => `nobody${n}@example.net`;
const range = (count: number) => Array.from({ length: count }, (_, n) => n);

/** The envelope's recipients of the messages with this subject, one for each copy. */
function recipientsOf(mails: string[], subject: string): string[] {
  return mails
    .filter((raw) => new RegExp(`^Subject: ${subject}\\s*$`, "m").test(raw))
    .map((raw) => /^(?:Delivered-To|Envelope-to): *(\S+)/im.exec(raw)?.[1] ?? "")
    .toSorted();
}

export function senderPromises(name: string, start: Start): void {
  test(`${name}: everybody who can get a message gets it once, whatever it takes from one connection`, async (context) => {
    const server = await start(context);
    if (!server) return;
    const s = await outgoing();
    try {
      await promises(s, server);
    } finally {
      await s.end();
    }
  });
}

async function promises(s: Outgoing, server: SubmissionServer): Promise<void> {
  const { id } = await s.sender({ ...server.send, connections: 1 });
  const copies = (subject: string, count: number) =>
    eventually(
      async () => {
        const found = recipientsOf(await server.mails(), subject);
        return found.length >= count && found;
      },
      `${count} copies of ${subject}`,
      60_000,
    );

  // More unknown recipients than a connection may have errors.
  const to = [good(0), ...range(24).map(nobody), good(1)];
  const { body } = await s.send(id, { to, subject: "unknown" });
  const { recipients } = await s.until(body.id, "failed");
  for (const { address, state, response } of recipients) {
    assert.equal(state, address.startsWith("nobody") ? "failed" : "sent", `${address}: ${response}`);
    if (state === "failed") assert.match(response, /^5\d\d /);
  }
  assert.deepEqual(await copies("unknown", 2), [good(0), good(1)]);

  // More recipients than a transaction may have.
  const many = range(17).map(good);
  const sent = await s.send(id, { to: many, subject: "many" }, { wait: 60 });
  assert.equal(sent.body.state, "sent", JSON.stringify(sent.body));
  assert.deepEqual(await copies("many", 17), many.toSorted());

  // More messages than a connection may carry.
  const answers = await Promise.all(range(8).map((n) => s.send(id, { to: [good(n)], subject: "burst" }, { wait: 60 })));
  assert.deepEqual(
    answers.map((answer) => [answer.body.state, answer.body.attempts]),
    answers.map(() => ["sent", 1]),
  );
  assert.deepEqual(await copies("burst", 8), range(8).map(good));

  // Text that a server could change or refuse.
  const text = ".\n..\nGrüße\nFrom here";
  const plain = await s.send(id, { to: [`Doe, John: 1 <${good(0)}>`], subject: "names", text }, { wait: 60 });
  assert.equal(plain.body.state, "sent", JSON.stringify(plain.body));
  await copies("names", 1);

  if (!server.loginWords) return;
  const auth = { ...server.send.auth, password: "wrong" };
  const other = await s.sender({ ...server.send, auth });
  const refused = await s.send(other.id, { to: [good(0)] }, { wait: 60 });
  assert.equal(refused.body.state, "failed");
  assert.match(refused.body.reason, server.loginWords);
}
