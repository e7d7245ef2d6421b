/** Stories of a CRM of the Creatio family that uses this service in place of its own listener. */
import assert from "node:assert/strict";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { PASSWORD } from "./bodies.ts";
import { savedMails } from "./servers/crm.ts";
import { message, numbered } from "./servers/mail.ts";
import { freePorts } from "./servers/ports.ts";
import { startSmtpScript } from "./servers/smtp-script.ts";
import { crmScene } from "./stories/crm-scene.ts";
import { status } from "./stories/scene.ts";

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);
const subject = (n: number) => `Message ${String(n).padStart(3, "0")}`;
const mail = (n: number, more = {}) => numbered(n, { subject: subject(n), ...more });

describe("a CRM and its mailboxes", () => {
  test("a mailbox is added, last week's mail is loaded, and new mail arrives, each once", async () => {
    const s = await crmScene();
    try {
      await s.mail.addUser("help", PASSWORD);
      await s.mail.appendMany("help", "INBOX", [mail(1), mail(2)]);
      const { id } = await s.crm.addMailbox({ user: "help", port: s.mail.imapPort });
      assert.deepEqual(await savedMails(s.crm, 2), [subject(1), subject(2)]);
      await status(s.service, id, "listening");
      await s.mail.append("help", "INBOX", mail(3));
      assert.deepEqual(await savedMails(s.crm, 3), [1, 2, 3].map(subject));
      await s.service.until("the CRM to hear that it listens", () => s.crm.states.some((state) => state.Avaliable));
      await s.service.stop();
      await s.service.start();
      await s.mail.append("help", "INBOX", mail(4));
      await savedMails(s.crm, 4);
      assert.equal(s.crm.states.length, 1, "a restart repeats no state");
      assert.deepEqual([s.crm.violations, s.crm.lost], [[], []]);
    } finally {
      await s.end();
    }
  });

  test("a token that expires is asked for, arrives by an update from inside the callback, and nothing is missed", async () => {
    const s = await crmScene({}, { ending: "ProcessFullEmail" });
    try {
      await s.mail.addToken("ann", "first");
      s.crm.freshToken = async () => {
        await s.mail.addToken("ann", "second");
        return "second";
      };
      const { id } = await s.crm.addMailbox({ user: "ann", token: "first", port: s.mail.imapPort });
      await status(s.service, id, "listening");
      await s.mail.append("ann", "INBOX", mail(1));
      await savedMails(s.crm, 1);
      await s.mail.removeToken("ann", "first");
      await s.mail.disconnectAll();
      await s.mail.append("ann", "INBOX", mail(2));
      assert.deepEqual(await savedMails(s.crm, 2), [1, 2].map(subject));
      await status(s.service, id, "listening");
      assert.deepEqual(s.crm.tokensAsked, [id]);
      assert.ok(
        s.crm.states.every((state) => state.Avaliable),
        "an expired token is no fault of the mailbox",
      );
      assert.deepEqual(s.crm.violations, []);
    } finally {
      await s.end();
    }
  });

  test("a CRM that is down for an hour gets everything when it is back, once", async () => {
    const s = await crmScene({ BACKOFF_SCALE: "0.01" });
    try {
      await s.mail.addUser("help", PASSWORD);
      const { id } = await s.crm.addMailbox({ user: "help", port: s.mail.imapPort });
      await status(s.service, id, "listening");
      await s.crm.stop();
      await s.mail.appendMany(
        "help",
        "INBOX",
        range(1, 20).map((n) => mail(n)),
      );
      const retrying = "/api/v1/deliveries?state=retrying";
      await s.service.until("all to wait", async () => (await s.service.call("GET", retrying)).body.total === 20);
      assert.equal((await s.crm.call("state", [id])).text.includes('"State":"exists"'), true);
      await s.crm.start();
      assert.deepEqual(await savedMails(s.crm, 20, 60_000), range(1, 20).map(subject));
      assert.equal(s.crm.arrived.length, 20);
      assert.deepEqual([s.crm.violations, s.crm.lost], [[], []]);
    } finally {
      await s.end();
    }
  });

  test("a CRM that moved gets what waits for its old address as soon as it says so", async () => {
    const s = await crmScene({ BACKOFF_SCALE: "100" });
    try {
      await s.mail.addUser("help", PASSWORD);
      const { id, credentials } = await s.crm.addMailbox({ user: "help", port: s.mail.imapPort });
      const [port] = await freePorts(1);
      await s.crm.call("recreate", [{ ...credentials, BpmEndpoint: `http://127.0.0.1:${port}/` }]);
      await status(s.service, id, "listening");
      await s.mail.append("help", "INBOX", mail(1));
      const retrying = "/api/v1/deliveries?state=retrying";
      await s.service.until("it to wait", async () => (await s.service.call("GET", retrying)).body.total === 1);
      await s.crm.call("recreate", [credentials]);
      assert.deepEqual(await savedMails(s.crm, 1), [subject(1)]);
    } finally {
      await s.end();
    }
  });

  test("a mailbox that is closed and created again misses nothing of the time between, and gets nothing twice", async () => {
    const s = await crmScene();
    try {
      await s.mail.addUser("help", PASSWORD);
      const { id, credentials } = await s.crm.addMailbox({ user: "help", port: s.mail.imapPort });
      await status(s.service, id, "listening");
      await s.mail.appendMany("help", "INBOX", [mail(1), mail(2)]);
      await savedMails(s.crm, 2);
      assert.equal((await s.crm.call("close", [id])).status, 200);
      assert.equal((await s.crm.call("subscriptionsState", [id])).text, "{}");
      await s.mail.append("help", "INBOX", mail(3));
      const { body } = await s.service.call("GET", `/api/v1/mailboxes/${id}`);
      assert.equal(body.state.status, "paused");
      assert.equal((await s.crm.call("create", [credentials])).status, 200);
      await status(s.service, id, "listening");
      await s.mail.append("help", "INBOX", mail(4));
      assert.deepEqual(await savedMails(s.crm, 4), range(1, 4).map(subject));
      assert.equal(s.crm.arrived.length, 4);
    } finally {
      await s.end();
    }
  });

  test("mail that a CRM accepted and lost by a restart comes again when it asks for it", async () => {
    const s = await crmScene({}, { saveMs: 1500 });
    try {
      await s.mail.addUser("help", PASSWORD);
      const { id, credentials } = await s.crm.addMailbox({ user: "help", port: s.mail.imapPort });
      await status(s.service, id, "listening");
      await s.mail.append("help", "INBOX", mail(1, { messageId: "<lost@example.com>" }));
      await s.service.until("the mail to be accepted", () => s.crm.arrived.length === 1);
      await s.crm.restart();
      assert.equal(s.crm.saved.size, 0);
      const { BpmEndpoint: _, ...bare } = credentials;
      assert.equal((await s.crm.call("fetch", { Credentials: bare, MessageIds: ["<lost@example.com>"] })).status, 200);
      assert.deepEqual(await savedMails(s.crm, 1), [subject(1)]);
    } finally {
      await s.end();
    }
  });

  test("a store that was wiped is healed by the CRM's own job, without a gap and without a flood", async () => {
    const s = await crmScene();
    let stopJob: (() => Promise<void>) | undefined;
    try {
      await s.mail.addUser("help", PASSWORD);
      const old = new Date(Date.now() - 2 * 3_600_000);
      await s.mail.appendMany(
        "help",
        "INBOX",
        range(1, 10).map((n) => mail(n, { date: old })),
      );
      const { id } = await s.crm.addMailbox({ user: "help", port: s.mail.imapPort });
      await savedMails(s.crm, 10);
      await status(s.service, id, "listening");
      await s.mail.append("help", "INBOX", mail(11));
      await savedMails(s.crm, 11);
      await s.service.kill();
      for (const file of await readdir(s.service.dataDir)) await rm(join(s.service.dataDir, file), { recursive: true });
      await s.mail.append("help", "INBOX", mail(12));
      await s.service.start();
      assert.equal((await s.crm.call("state", [id])).text, "{}");
      stopJob = s.crm.everyMinute(300);
      assert.deepEqual(await savedMails(s.crm, 12), range(1, 12).map(subject));
      await status(s.service, id, "listening");
      await s.mail.append("help", "INBOX", mail(13));
      await savedMails(s.crm, 13);
      const recreated = s.crm.calls.filter(({ path }) => path === "recreate").length;
      assert.equal(recreated, 2, "one at the beginning, one for the wiped store");
      assert.deepEqual([s.crm.violations, s.crm.lost], [[], []]);
    } finally {
      await stopJob?.();
      await s.end();
    }
  });

  test("the same mail in three mailboxes reaches the CRM one after the other, so that no copy is lost", async () => {
    const s = await crmScene({}, { saveMs: 700 });
    try {
      const users = ["ann", "bob", "eve"];
      const ids: string[] = [];
      for (const user of users) {
        await s.mail.addUser(user, PASSWORD);
        const { id } = await s.crm.addMailbox({ user, port: s.mail.imapPort });
        await status(s.service, id, "listening");
        ids.push(id);
      }
      const same = mail(1, { messageId: "<all@example.com>" });
      await Promise.all(users.map((user) => s.mail.append(user, "INBOX", same)));
      await s.service.until("all three to be saved", () => s.crm.saved.get("<all@example.com>")?.mailboxes.size === 3);
      assert.deepEqual(s.crm.lost, []);
      assert.equal(s.crm.arrived.length, 3);
    } finally {
      await s.end();
    }
  });

  test("drafts are never delivered, and what was delivered gets the CRM's keyword only then", async () => {
    const s = await crmScene();
    try {
      await s.mail.addUser("help", PASSWORD);
      const wish = { user: "help", port: s.mail.imapPort, mark: true };
      const { id } = await s.crm.addMailbox(wish);
      await status(s.service, id, "listening");
      s.crm.fault = () => ({ status: 503 });
      const uid = await s.mail.append("help", "INBOX", mail(1));
      await s.service.until("a refusal", () => s.service.facts.some((fact) => fact.kind === "mail.retrying"));
      assert.deepEqual((await s.mail.flags("help", "INBOX")).get(uid), []);
      s.crm.fault = () => undefined;
      await savedMails(s.crm, 1);
      await s.service.until("the keyword", async () =>
        (await s.mail.flags("help", "INBOX")).get(uid)?.includes("Creatio"),
      );
      await s.service.stop();
      const draft = await s.mail.append("help", "INBOX", mail(2));
      await s.mail.setFlags("help", "INBOX", draft, ["\\Draft"]);
      await s.mail.append("help", "INBOX", mail(3));
      await s.service.start();
      assert.deepEqual(await savedMails(s.crm, 2), [1, 3].map(subject));
      await s.service.until("the draft to be skipped", () =>
        s.service.facts.some((fact) => fact.kind === "mail.skipped"),
      );
      assert.equal(s.crm.saved.size, 2);
    } finally {
      await s.end();
    }
  });

  test("a message too large for the CRM arrives without its attachments and says so", async () => {
    const s = await crmScene();
    try {
      await s.mail.addUser("help", PASSWORD);
      const { id } = await s.crm.addMailbox({ user: "help", port: s.mail.imapPort });
      await status(s.service, id, "listening");
      const quota = "The maximum message size quota for incoming messages (65536) has been exceeded.";
      s.crm.fault = (_, raw) => (raw.length > 100_000 ? { status: 400, text: quota } : undefined);
      const attachments = [{ filename: "big.bin", content: Buffer.alloc(100_000, 7) }];
      await s.mail.append("help", "INBOX", message({ subject: "Large", html: "<p>See</p>", attachments }));
      await savedMails(s.crm, 1);
      const [{ email } = { email: undefined }] = s.crm.arrived;
      assert.deepEqual(email?.Attachments, []);
      assert.match(email?.Body ?? "", /^<p>See<\/p>[^]*big\.bin \(98 KB\)[^]*too large/);
    } finally {
      await s.end();
    }
  });

  test("a wrong password is told once with the server's words, over restarts, and its end is told too", async () => {
    const s = await crmScene({ BACKOFF_SCALE: "0.002" });
    try {
      await s.mail.addUser("help", PASSWORD);
      const { id, credentials } = await s.crm.addMailbox({ user: "help", port: s.mail.imapPort });
      await s.service.until("the first news", () => s.crm.states.length === 1);
      await s.mail.setPassword("help", "another horse");
      await s.mail.disconnectAll();
      await s.service.until("the bad news", () => s.crm.states.length === 2);
      const bad = s.crm.states[1];
      assert.equal(bad?.Avaliable, false);
      assert.match(bad?.ExceptionClassName ?? "", /AuthenticationException$/);
      assert.match(bad?.ExceptionMessage ?? "", /Invalid credentials/);
      assert.equal(bad?.Context, credentials["Context"]);
      assert.match((await s.crm.call("state", [id])).text, /exists/);
      await s.service.stop();
      await s.service.start();
      await s.mail.addUser("other", PASSWORD);
      const other = await s.crm.addMailbox({ user: "other", port: s.mail.imapPort });
      await s.service.until("the news of another mailbox", () => s.crm.states.length === 3);
      assert.equal(s.crm.states[2]?.Context, other.credentials["Context"], "a restart repeats nothing");
      credentials["Password"] = "another horse";
      await s.crm.call("recreate", [credentials]);
      await s.service.until("the good news", () => s.crm.states.length === 4);
      assert.equal(s.crm.states[3]?.Avaliable, true);
      assert.equal(s.crm.states[3]?.Context, credentials["Context"]);
    } finally {
      await s.end();
    }
  });
});

describe("a CRM that sends", () => {
  test("a message with an attachment goes out once under the CRM's Message-ID, and its Sent copy is no second mail", async () => {
    const s = await crmScene({ FOLDER_POLL_SECONDS: "0.5" });
    const smtp = await startSmtpScript();
    try {
      await s.mail.addUser("help", PASSWORD);
      await s.mail.append("help", "INBOX", mail(1));
      const folders = JSON.parse(
        (await s.crm.call("folders", s.crm.credentials({ user: "help", port: s.mail.imapPort }))).text,
      );
      assert.deepEqual(folders.map((folder: { Id: string }) => folder.Id).includes("Sent"), true);
      const wish = { user: "help", port: s.mail.imapPort, folders: ["INBOX", "Sent"] };
      const { id, credentials } = await s.crm.addMailbox(wish);
      await status(s.service, id, "listening");
      await savedMails(s.crm, 1);
      const command = sendCommand(credentials, smtp.port);
      const first = await s.crm.call("v2/send", command);
      assert.deepEqual([first.status, first.text], [200, ""]);
      const again = await s.crm.call("v2/send", command);
      assert.deepEqual([again.status, again.text], [200, ""]);
      const [taken] = await smtp.waitFor(1);
      assert.equal(smtp.taken.length, 1, "the same Message-ID is not sent twice");
      assert.match(taken?.raw ?? "", /^Message-ID: <5f1c@example\.com>/im);
      assert.match(taken?.raw ?? "", /^X-Ticket: 17/im);
      assert.doesNotMatch(taken?.raw ?? "", /^(MessageId|Bcc):/im);
      assert.match(taken?.raw ?? "", /^Importance: High/im);
      assert.match(taken?.raw ?? "", /^Content-ID: <0d1f>/im);
      assert.deepEqual(taken?.to, ["bob@example.net", "eve@example.net"]);
      await savedMails(s.crm, 2);
      assert.equal(await s.mail.count("help", "Sent"), 1);
      // When a later mail of that folder has arrived, the folder was looked at with the copy in it.
      await s.mail.append("help", "Sent", mail(2));
      await savedMails(s.crm, 3);
      assert.equal(s.crm.arrived.filter(({ email }) => email.MessageId === "<5f1c@example.com>").length, 1);
      assert.deepEqual([s.crm.violations, s.crm.lost], [[], []]);
    } finally {
      await smtp.stop();
      await s.end();
    }
  });

  test("a refusal is told in the server's words, by the status in version 1, and may be tried again", async () => {
    const s = await crmScene();
    const smtp = await startSmtpScript();
    try {
      await s.mail.addUser("help", PASSWORD);
      // Sent before the mailbox is saved, as the settings page does.
      const credentials = s.crm.credentials({ user: "help", port: s.mail.imapPort });
      const command = sendCommand(credentials, smtp.port);
      smtp.play(({ step }) => (step === "rcpt" ? "550 5.1.1 No such user here" : undefined));
      const refused = await s.crm.call("v2/send", command);
      assert.equal(refused.status, 200);
      assert.match(refused.text, /bob@example\.net.*No such user here/);
      const older = await s.crm.call("send", command);
      assert.equal(older.status, 500);
      assert.match(older.text, /No such user here/);
      assert.match((await s.crm.call("state", [credentials["Id"]])).text, /^\{\}$/, "sending subscribes to nothing");
      smtp.play(() => undefined);
      const tried = await s.crm.call("v2/send", command);
      assert.deepEqual([tried.status, tried.text], [200, ""]);
      assert.equal((await smtp.waitFor(1)).length, 1);
    } finally {
      await smtp.stop();
      await s.end();
    }
  });
});

function sendCommand(credentials: Record<string, unknown>, port: number) {
  return {
    Email: {
      Id: "<5f1c@example.com>",
      Subject: "Angebot №1",
      Body: '<p>Look: <img src="cid:0d1f"></p>',
      IsHtmlBody: true,
      Sender: `Help Desk <${String(credentials["SenderEmailAddress"])}>`,
      Recepients: ["bob@example.net"],
      CopyRecepients: [],
      BlindCopyRecepients: ["Eve <eve@example.net>"],
      Importance: 3,
      Headers: ["MessageId=<5f1c@example.com>", "X-Ticket=17", "References=<a@example.com>"],
      Attachments: [
        { Id: "0d1f", Name: "logo.png", IsInline: true, Base64Data: Buffer.from("png").toString("base64") },
        { Id: "77aa", Name: "Angebot.pdf", IsInline: false, Base64Data: Buffer.from("pdf").toString("base64") },
      ],
    },
    Credentials: { ...credentials, Port: port, BpmEndpoint: undefined },
  };
}
