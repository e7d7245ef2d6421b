/** Sending through mail servers of the real world: Postfix, GreenMail, and copies in Dovecot's Sent folder. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { loginAgain, sceneWith, status } from "./stories/scene.ts";
import { outgoing } from "./stories/outgoing.ts";
import { senderPromises } from "./promises/senders.ts";
import { chasquidOrSkip } from "./servers/chasquid.ts";
import { eximOrSkip } from "./servers/exim.ts";
import { postfixOrSkip, postfixSubmissionOrSkip } from "./servers/postfix.ts";
import { dovecotOrSkip, greenMailOrSkip } from "./servers/provide.ts";
import { startSmtpScript } from "./servers/smtp-script.ts";

describe("a real server for sending", () => {
  senderPromises("Postfix", postfixSubmissionOrSkip);
  senderPromises("Exim", eximOrSkip);
  senderPromises("chasquid", chasquidOrSkip);
});

describe("sending through", () => {
  test("Postfix: what it takes is delivered once, and what it returns makes the sending bounced", async (context) => {
    const postfix = await postfixOrSkip(context);
    if (!postfix) return;
    const s = await outgoing();
    try {
      const { id, user } = await s.sender({ port: postfix.port }, { listening: true });
      const answers = await Promise.all(
        Array.from({ length: 10 }, (_, n) =>
          s.send(id, { subject: `Nr ${n}`, text: ".\n..\nGrüße" }, { key: `k${n}`, wait: 25 }),
        ),
      );
      assert.deepEqual(new Set(answers.map(({ body }) => body.state)), new Set(["sent"]));
      const mails = await postfix.waitFor("bob", 10);
      const subjects = mails.map((raw) => /^Subject: (.*)$/m.exec(raw)?.[1]?.trim());
      assert.deepEqual(
        subjects.toSorted(),
        Array.from({ length: 10 }, (_, n) => `Nr ${n}`),
      );
      const back = await s.send(id, { to: ["nobody@example.net"] }, { wait: 25 });
      assert.equal(back.body.state, "sent");
      const [bounce = ""] = await postfix.waitFor("senders", 1);
      await s.mail.append(user, "INBOX", Buffer.from(bounce.replace(/\r?\n/g, "\r\n"), "latin1"));
      const sending = await s.until(back.body.id, "bounced");
      assert.match(sending.recipients[0].response, /unknown user/);
    } finally {
      await s.end();
    }
  });

  test("GreenMail: the message arrives, and its copy is in the Sent folder of the same server", async (context) => {
    const mail = await greenMailOrSkip(context);
    if (!mail) return;
    await mail.addUser("bob", "secret");
    const s = await sceneWith(mail);
    try {
      const { id, user } = await s.mailbox({ wait: false });
      const send = { host: "127.0.0.1", port: mail.smtpPort, tls: "none" };
      await s.service.call("PATCH", `/api/v1/mailboxes/${id}`, {
        address: `${user}@localhost`,
        receive: loginAgain(user),
        send,
      });
      const message = { to: ["bob@localhost"], subject: "Through GreenMail", text: "Hello" };
      const answer = await s.service.call("POST", `/api/v1/mailboxes/${id}/messages?wait=25`, message);
      assert.equal(answer.body.state, "sent", JSON.stringify(answer.body));
      await s.service.until("bob to have it", async () => (await mail.count("bob", "INBOX")) === 1);
      await s.service.until("the copy", async () => (await mail.count(user, "Sent").catch(() => 0)) === 1);
    } finally {
      await s.end();
    }
  });

  test("Dovecot keeps one copy, also when the service is killed while it files it", async (context) => {
    const mail = await dovecotOrSkip(context);
    if (!mail) return;
    const s = await sceneWith(mail);
    const smtp = await startSmtpScript();
    try {
      const { id, user } = await s.mailbox();
      const send = { host: "127.0.0.1", port: smtp.port, tls: "none" };
      await s.service.call("PATCH", `/api/v1/mailboxes/${id}`, { receive: loginAgain(user), send });
      await status(s.service, id, "listening");
      const ask = (n: number) =>
        s.service.call("POST", `/api/v1/mailboxes/${id}/messages`, { to: ["bob@example.net"], subject: `Nr ${n}` });
      for (let n = 0; n < 12; n++) assert.equal((await ask(n)).status, 202);
      await smtp.waitFor(4);
      await s.service.kill();
      await s.service.start();
      const sent = await s.service.until("all to be over", async () => {
        const { body } = await s.service.call("GET", `/api/v1/mailboxes/${id}/messages?limit=100`);
        return (
          body.items.every((one: any) => one.state !== "queued") &&
          body.items.filter((one: any) => one.state === "sent")
        );
      });
      await s.service.until("the copies", async () => (await mail.count(user, "Sent").catch(() => 0)) >= sent.length);
      for (const one of sent)
        await s.service.until("the bytes to go, as no copy remains to be made", async () => {
          const { status: code } = await s.service.call("GET", `/api/v1/messages/${one.id}/raw`);
          return code === 404;
        });
      assert.equal(await mail.count(user, "Sent"), sent.length);
    } finally {
      await s.end();
      await smtp.stop();
    }
  });
});
