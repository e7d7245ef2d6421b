/** Messages that come back: read in every form, linked to what was sent, reported as bounced. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { parseMessage } from "../shared/mail/mime/message.ts";
import { bounces, notBounces, readReceipt } from "./servers/bounces.ts";
import { type Outgoing, outgoing } from "./stories/outgoing.ts";

const about = { recipient: "nobody@example.org", messageId: "<original@example.com>", to: "me@example.com" };

/** Of the forms that say anything else than that nobody has the address. */
const REASONS: Record<string, string> = { complaint: "complaint", postfix: "mailbox_full", exim: "host_unknown" };

describe("a returned message", () => {
  for (const [name, { raw, says }] of Object.entries(bounces)) {
    test(`in the form of ${name} is read: whom it is about, and why`, async () => {
      const { bounce, inReplyTo } = await parseMessage(raw(about), { maxAttachmentBytes: 0 });
      assert.ok(bounce);
      assert.equal(bounce.recipient, about.recipient);
      assert.match(bounce.diagnostic ?? "", says);
      assert.equal(bounce.originalMessageId ?? inReplyTo, about.messageId);
      assert.equal(bounce.action, name === "complaint" ? "complaint" : "failed");
    });
  }

  test("that is an automatic reply or a person's letter is no bounce", async () => {
    for (const name of ["vacation", "person"]) {
      const parsed = await parseMessage(notBounces[name]!(about), { maxAttachmentBytes: 0 });
      assert.equal(parsed.bounce, null, name);
    }
  });
});

describe("a message that comes back", () => {
  let s: Outgoing;
  before(async () => {
    s = await outgoing();
  });
  after(() => s.end());

  test("in any form makes its recipient bounced, with the reason, a fact and a signed webhook", async () => {
    const { id, user, address } = await s.sender({ notify: true }, { listening: true });
    for (const [name, { raw, says }] of Object.entries(bounces)) {
      const recipient = `${name}@example.org`;
      const sent = await s.send(id, { to: [recipient, "other@example.org"] }, { wait: 20 });
      assert.equal(sent.body.state, "sent", JSON.stringify(sent.body));
      await s.mail.append(user, "INBOX", raw({ recipient, messageId: sent.body.messageId, to: address }));
      const sending = await s.until(sent.body.id, "bounced");
      assert.deepEqual(
        sending.recipients.map(({ state }: { state: string }) => state),
        ["bounced", "sent"],
        name,
      );
      assert.match(sending.recipients[0].response, says);
      assert.equal(sending.recipients[0].bounceReason, REASONS[name] ?? "user_unknown", name);
      const told = await s.endpoint.waitFor((request) => {
        const { type, data } = request.json as any;
        return type === "message.bounced" && data.id === sent.body.id;
      });
      assert.ok(told.verified);
      assert.equal((told.json as any).data.recipient, recipient);
      const isFact = (fact: (typeof s.service.facts)[number]) =>
        fact.kind === "send.bounced" && fact["sending"] === sent.body.id;
      await s.service.until("the fact", async () => s.service.facts.some(isFact));
    }
  });

  test("names its recipient with quotes or without, where dots need them", async () => {
    const { id, user, address } = await s.sender({}, { listening: true });
    const recipient = "xxx.yyy.@example.org";
    const sent = await s.send(id, { to: [recipient, "other@example.org"] }, { wait: 20 });
    const returned = bounces["postfix"]!.raw({ recipient, messageId: sent.body.messageId, to: address });
    await s.mail.append(user, "INBOX", returned);
    const sending = await s.until(sent.body.id, "bounced");
    assert.equal(sending.recipients[0].state, "bounced");
  });

  test("only as a delay, a receipt, an automatic reply or a letter changes nothing", async () => {
    const { id, user, address } = await s.sender({}, { listening: true });
    for (const [name, raw] of Object.entries(notBounces)) {
      const sent = await s.send(id, { to: ["bob@example.net"] }, { wait: 20 });
      await s.mail.append(
        user,
        "INBOX",
        raw({ recipient: "bob@example.net", messageId: sent.body.messageId, to: address }),
      );
      await s.endpoint.waitFor((request) => JSON.stringify(request.json).includes(sent.body.messageId.slice(1, -1)));
      const { body } = await s.service.call("GET", `/api/v1/messages/${sent.body.id}`);
      assert.equal(body.state, "sent", name);
    }
    assert.ok(s.service.facts.some((fact) => fact.kind === "send.auto_replied"));
  });

  test("as a read receipt is written down with its recipient, who stays sent", async () => {
    const { id, user, address } = await s.sender({}, { listening: true });
    const sent = await s.send(id, { to: ["ann@example.org", "bob@example.org"] }, { wait: 20 });
    const receipt = readReceipt({ recipient: "bob@example.org", messageId: sent.body.messageId, to: address });
    await s.mail.append(user, "INBOX", receipt);
    const { body } = await s.service.until("the receipt to be written down", async () => {
      const answer = await s.service.call("GET", `/api/v1/messages/${sent.body.id}`);
      return answer.body.recipients[1].receipt !== undefined && answer;
    });
    const [ann, bob] = body.recipients;
    assert.deepEqual([ann.receipt, bob.receipt.disposition, bob.state], [undefined, "displayed", "sent"]);
    await s.service.until("the fact of the receipt", () =>
      s.service.facts.some((fact) => fact.kind === "send.receipt_received" && fact["recipient"] === "bob@example.org"),
    );
  });

  test("an automatic message is not sent to an address that sent one within the hour", async () => {
    const { id, user, address } = await s.sender({}, { listening: true });
    const automatic = { to: ["robot@example.net"], headers: { "Auto-Submitted": "auto-replied" } };
    assert.equal((await s.send(id, automatic, { wait: 20 })).body.state, "sent");
    const reply = notBounces["vacation"]!({
      recipient: "robot@example.net",
      messageId: "<x@example.com>",
      to: address,
    });
    await s.mail.append(user, "INBOX", reply);
    await s.service.until("the loop to be refused", async () => {
      const answer = await s.send(id, automatic);
      return answer.status === 422 && answer.body.code === "loop";
    });
    assert.equal((await s.send(id, { to: ["robot@example.net"] }, { wait: 20 })).body.state, "sent");
  });
});
