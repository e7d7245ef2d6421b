/** Stories of mail that goes out: what a client is promised about one request, one message and its copies. */
import assert from "node:assert/strict";
import { createHash, generateKeyPairSync } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { parseMessage } from "../shared/mail/mime/message.ts";
import { PASSWORD } from "./bodies.ts";
import { makeCertificates } from "./servers/certificates.ts";
import { startSmtpScript } from "./servers/smtp-script.ts";
import { type Outgoing, outgoing } from "./stories/outgoing.ts";
import { loginAgain } from "./stories/scene.ts";

const base64 = (text: string) => Buffer.from(text, "latin1").toString("base64");

describe("sending", () => {
  let s: Outgoing;
  before(async () => {
    s = await outgoing();
  });
  after(() => s.end());

  /** Sends, waits for the end, and gives back the answer with what the server took of it. */
  const sent = async (id: string, message: object = {}) => {
    s.smtp.play(() => undefined);
    const earlier = s.smtp.taken.length;
    const answer = await s.send(id, message, { wait: 20 });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return { answer, taken: s.smtp.taken.slice(earlier) };
  };

  test("a message is composed of all its parts and arrives whole", async () => {
    const { id, address } = await s.sender();
    const png = Buffer.from("89504e470d0a1a0a", "hex").toString("base64");
    const message = {
      to: [{ name: "Bób", address: "bob@example.net" }],
      cc: ["Carol <carol@example.net>"],
      bcc: ["dave@bücher.example"],
      replyTo: "replies@example.net",
      subject: "Grüße, 世界",
      text: "Hello\n.\n..dots\n",
      html: '<p>Hello <img src="cid:logo"></p>',
      attachments: [
        { filename: "résumé.txt", contentType: "text/plain", content: base64("a\r\nb") },
        { filename: "logo.png", contentId: "logo", content: png },
      ],
      headers: { "X-Campaign": "spring", "List-Unsubscribe": "<https://example.com/u>" },
      inReplyTo: "<before@example.net>",
      references: ["<first@example.net>", "<before@example.net>"],
      importance: "high",
    };
    const { answer, taken } = await sent(id, message);
    assert.deepEqual(taken[0]?.to, ["bob@example.net", "carol@example.net", "dave@xn--bcher-kva.example"]);
    assert.equal(taken[0]?.from, address);
    const got = await parseMessage(Buffer.from(taken[0]?.raw ?? "", "latin1"), { maxAttachmentBytes: 1e6 });
    assert.equal(got.messageId, answer.body.messageId);
    assert.equal(got.subject, message.subject);
    assert.deepEqual(got.from, { name: "", address });
    assert.deepEqual(got.to, message.to);
    assert.deepEqual(got.cc, [{ name: "Carol", address: "carol@example.net" }]);
    assert.deepEqual([got.bcc, got.inReplyTo, got.references], [[], message.inReplyTo, message.references]);
    assert.equal(got.text?.replace(/\n+$/, ""), "Hello\n.\n..dots");
    assert.ok(got.html?.includes('src="cid:logo"'));
    const files = got.attachments.map(({ filename, contentId, content }) => [
      filename,
      contentId,
      Buffer.from(content ?? []).toString("base64"),
    ]);
    assert.deepEqual(files.toSorted(), [
      ["logo.png", "logo", png],
      ["résumé.txt", null, base64("a\r\nb")],
    ]);
    const header = (name: string) => got.headers.find(([one]) => one === name)?.[1];
    assert.deepEqual([header("x-campaign"), header("importance")], ["spring", "High"]);
    assert.ok(!taken[0]?.raw.includes("dave"), "Bcc is told to nobody");
  });

  test("twenty requests at once with one Idempotency-Key are one message; a new key or none is another", async () => {
    const { id } = await s.sender();
    s.smtp.play(() => undefined);
    const earlier = s.smtp.taken.length;
    const answers = await Promise.all(Array.from({ length: 20 }, () => s.send(id, {}, { key: "order-1", wait: 20 })));
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
    assert.equal(new Set(answers.map(({ body }) => body.id)).size, 1);
    assert.equal(s.smtp.taken.length - earlier, 1);
    const again = await s.send(id, {}, { key: "order-1" });
    assert.equal(again.body.id, answers[0]?.body.id);
    const other = await s.send(id, { subject: "Something else" }, { key: "order-1" });
    assert.equal(other.status, 422);
    assert.equal(other.body.code, "key_reused");
    assert.match(other.body.detail, /order-1/);
    await sent(id);
    await sent(id);
    assert.equal(s.smtp.taken.length - earlier, 3);
    const listed = await s.service.call("GET", `/api/v1/mailboxes/${id}/messages?state=sent`);
    assert.equal(listed.body.total, 3);
    assert.equal((await s.service.call("GET", `/api/v1/mailboxes/${id}/messages?state=failed`)).body.total, 0);
  });

  test("past its share of the hour a mailbox gets 429 with Retry-After, and nothing is taken up", async () => {
    const { id } = await s.sender({ perHour: 2 });
    await sent(id);
    await sent(id);
    const refused = await s.send(id);
    assert.equal(refused.status, 429);
    assert.equal(refused.body.code, "rate");
    const wait = Number(refused.headers.get("retry-after"));
    assert.ok(wait > 3000 && wait <= 3600, String(wait));
    assert.equal((await s.service.call("GET", `/api/v1/mailboxes/${id}/messages`)).body.total, 2);
  });

  test("a pace is kept: what goes beyond it waits, and is no failed attempt", async () => {
    const { id } = await s.sender({ ratePerMinute: 60 });
    s.smtp.play(() => undefined);
    const all = await Promise.all(Array.from({ length: 9 }, () => s.send(id, {}, { wait: 20 })));
    assert.ok(all.every(({ body }) => body.state === "sent" && body.attempts === 1));
    const times = all.map(({ body }) => Date.parse(body.sentAt)).toSorted((a, b) => a - b);
    assert.ok((times.at(-1) ?? 0) - (times[0] ?? 0) >= 1000, "the last ones waited");
  });

  test("messages leave over as many connections at once as the mailbox allows", async () => {
    const { id } = await s.sender({ connections: 5 });
    const release = Promise.withResolvers<undefined>();
    let atOnce = 0;
    let most = 0;
    s.smtp.play(async ({ step }) => {
      if (step !== "end") return undefined;
      most = Math.max(most, ++atOnce);
      if (atOnce === 5) setTimeout(release.resolve, 200);
      await release.promise;
      atOnce--;
      return undefined;
    });
    const all = await Promise.all(Array.from({ length: 8 }, () => s.send(id, {}, { wait: 20 })));
    assert.ok(all.every(({ body }) => body.state === "sent"));
    assert.equal(most, 5);
  });

  test("a message for later goes out then, also when the service was killed meanwhile", async () => {
    const { id } = await s.sender();
    const earlier = s.smtp.taken.length;
    const sendAt = new Date(Date.now() + 3000);
    const { body } = await s.send(id, { sendAt: sendAt.toISOString() });
    assert.equal(body.state, "queued");
    await s.service.kill();
    await s.service.start();
    assert.equal(s.smtp.taken.length, earlier);
    const sending = await s.until(body.id, "sent");
    assert.ok(Date.parse(sending.sentAt) >= sendAt.getTime());
    assert.equal((await s.send(id, { sendAt: "2999-01-01T00:00:00Z" })).status, 422);
  });

  test("what would add a header, a recipient or another sender is refused, with the field named", async () => {
    const { id, address } = await s.sender();
    const wrong: [object, string][] = [
      [{ to: ["bob@example.net\r\nBcc: eve@example.org"] }, "to"],
      [{ to: ["bob@example.net, eve@example.org"] }, "to.0"],
      [{ to: ["friends: bob@example.net, eve@example.org;"] }, "to.0"],
      [{ to: ["<@relay.example:bob@example.net>"] }, "to.0"],
      [{ to: ['"bob@example.net>, <eve"@example.org'] }, "to.0"],
      [{ to: [{ name: "Bob\nBcc: eve@example.org", address: "bob@example.net" }] }, "to.0"],
      [{ to: [] }, "to"],
      [{ subject: "Hello\r\nBcc: eve@example.org" }, "subject"],
      [{ headers: { "X-A": "1\r\nBcc: eve@example.org" } }, "headers.X-A"],
      [{ headers: { "X-A: 1\r\nBcc": "eve@example.org" } }, "headers"],
      [{ headers: { Bcc: "eve@example.org" } }, "headers.Bcc"],
      [{ headers: { "Content-Type": "text/html" } }, "headers.Content-Type"],
      [{ headers: { "DKIM-Signature": "v=1" } }, "headers.DKIM-Signature"],
      [{ headers: { "Resent-To": "eve@example.org" } }, "headers.Resent-To"],
      [{ attachments: [{ path: "/etc/passwd" }] }, "attachments.0"],
      [{ attachments: [{ href: "http://127.0.0.1/", content: "" }] }, "attachments.0"],
      [{ attachments: [{ content: base64("x"), contentType: "text/plain\r\nX: y" }] }, "attachments.0.contentType"],
      [{ raw: base64("From: me\r\n\r\n"), subject: "both" }, "subject"],
    ];
    for (const [message, path] of wrong) {
      const answer = await s.send(id, message);
      assert.equal(answer.status, 422, JSON.stringify([message, answer.body]));
      const paths = answer.body.errors.map((error: { path: string }) => error.path);
      assert.ok(
        paths.some((one: string) => one.startsWith(path)),
        `${JSON.stringify(message)}: ${paths}`,
      );
    }
    for (const from of ["eve@example.org", { name: address, address: "eve@example.org" }])
      assert.equal((await s.send(id, { from })).body.code, "sender");
    assert.equal((await s.send(id, { to: [address.toUpperCase()] })).body.code, "loop");
    assert.equal((await s.service.call("GET", `/api/v1/mailboxes/${id}/messages`)).body.total, 0);
  });

  test("another sender's address, and the mailbox itself, are allowed where the mailbox says so", async () => {
    const { id, address } = await s.sender({ from: ["sales@example.com"], allowSelf: true });
    const { taken } = await sent(id, { from: "Sales <sales@example.com>", to: [address] });
    assert.deepEqual([taken[0]?.from, taken[0]?.to], ["sales@example.com", [address]]);
  });

  test("a ready message is sent as it is but for Bcc, and one that can be read in two ways is refused", async () => {
    const { id, address } = await s.sender();
    const head = [`From: Me <${address}>`, "To: bob@example.net", "Subject: Ready", "Message-ID: <ready@example.com>"];
    const raw = `${[...head, "Bcc: carol@example.net", "X-Odd:  kept  as\r\n it is"].join("\r\n")}\r\n\r\n8-bit: \xe4\n.\nend`;
    const { taken, answer } = await sent(id, { to: [], raw: base64(raw), subject: undefined, text: undefined });
    assert.equal(answer.body.messageId, "<ready@example.com>");
    assert.deepEqual(taken[0]?.to, ["bob@example.net", "carol@example.net"]);
    assert.ok(taken[0]?.raw.startsWith(`${head.join("\r\n")}\r\nX-Odd:  kept  as\r\n it is\r\nDate: `));
    assert.ok(taken[0]?.raw.endsWith("\r\n\r\n8-bit: \xe4\r\n.\r\nend\r\n"), taken[0]?.raw);
    assert.ok(!taken[0]?.raw.includes("carol"));
    for (const odd of [
      `From: ${address}\r\nFrom: eve@example.org\r\nTo: bob@example.net\r\n\r\n`,
      `From: ${address}, eve@example.org\r\nTo: bob@example.net\r\n\r\n`,
      `From: ${address}\r\nTo: bob@example.net\r\nno field\r\n\r\n`,
      `From: ${address}\r\nTo : bob@example.net\r\n\r\n`,
      `From: ${address}\r\nTo: bob@example.net\r\nResent-To: eve@example.org\r\n\r\n`,
      `From: ${address}\r\nTo: bob@example.net\0\r\n\r\n`,
      "To: bob@example.net\r\n\r\n",
    ]) {
      const refused = await s.send(id, { to: [], raw: base64(odd), subject: undefined, text: undefined });
      assert.equal(refused.status, 422, JSON.stringify([odd, refused.body]));
    }
    const foreign = base64("From: eve@example.org\r\nTo: bob@example.net\r\n\r\n");
    assert.equal((await s.send(id, { to: [], raw: foreign, subject: undefined, text: undefined })).body.code, "sender");
  });

  test("the endpoint hears what became of a message, signed, if the mailbox or the request asks for it", async () => {
    const { id } = await s.sender();
    const { answer } = await sent(id, { notify: true });
    const told = await s.endpoint.waitFor((request) => (request.json as any).data.id === answer.body.id);
    assert.ok(told.verified);
    const { type, data } = told.json as any;
    assert.equal(type, "message.sent");
    assert.deepEqual(data.recipients, [{ address: "bob@example.net", state: "sent", response: "250 2.0.0 taken" }]);
    s.smtp.play(({ step }) => (step === "rcpt" ? "550 5.1.1 nobody" : undefined));
    const { body } = await s.send(id, { notify: true });
    await s.endpoint.waitFor((request) => {
      const json = request.json as any;
      return json.type === "message.failed" && json.data.id === body.id;
    });
  });

  test("what the server cannot take is not sent to it: too large, or an international address", async () => {
    const { id, user } = await s.sender();
    const small = await startSmtpScript({ offers: ["SIZE 5000"] });
    try {
      await s.service.call("PATCH", `/api/v1/mailboxes/${id}`, {
        receive: loginAgain(user),
        send: { port: small.port },
      });
      const large = await s.send(id, { text: "x".repeat(9000) }, { wait: 20 });
      assert.equal(large.body.state, "failed");
      assert.match(large.body.reason, /5000/);
      assert.equal(small.moments.filter(({ step }) => step === "mail").length, 0);
    } finally {
      await small.stop();
    }
  });

  test("notifications are asked for as the standard has it, with the sending's id", async () => {
    const { id } = await s.sender();
    const { answer } = await sent(id, { dsn: { notify: ["success", "failure"], return: "full" } });
    const said = s.smtp.moments.filter(({ step }) => step === "mail" || step === "rcpt").map(({ line }) => line);
    assert.ok(
      said.some((line) => line.includes("RET=FULL") && line.includes(`ENVID=${answer.body.id}`)),
      said.join(),
    );
    assert.ok(said.some((line) => line.includes("NOTIFY=SUCCESS,FAILURE")));
  });

  test("a copy goes into the Sent folder, once, and not where the mailbox says never", async () => {
    const { id, user } = await s.sender({ saveSent: "auto" });
    const { answer } = await sent(id, { subject: "For the record" });
    await s.service.until("the copy", async () => (await s.mail.count(user, "Sent").catch(() => 0)) === 1);
    assert.deepEqual([...(await s.mail.flags(user, "Sent")).values()], [["\\Seen"]]);
    const settled = (message: string) =>
      s.service.until("the bytes to go, as no copy remains to be made", async () => {
        const { status } = await s.service.call("GET", `/api/v1/messages/${message}/raw`);
        return status === 404;
      });
    await settled(answer.body.id);
    const never = await s.sender({ saveSent: "never" });
    const without = await sent(never.id);
    await settled(without.answer.body.id);
    assert.equal(await s.mail.count(never.user, "Sent").catch(() => 0), 0);
  });

  test("a message is signed with the mailbox's DKIM key", async () => {
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    const { id } = await s.sender({ dkim: { domain: "example.com", selector: "s1", privateKey: pem } });
    const { taken } = await sent(id);
    assert.match(taken[0]?.raw ?? "", /^DKIM-Signature: v=1; a=rsa-sha256; c=relaxed\/relaxed; d=example\.com;/m);
    const { body } = await s.service.call("GET", `/api/v1/mailboxes/${id}`);
    assert.deepEqual(body.send.dkim, { domain: "example.com", selector: "s1" });
    assert.ok(!JSON.stringify(body).includes("PRIVATE KEY"));
  });

  test("a mailbox without `send` says so, and one login serves both ways", async () => {
    const { id, user } = await s.mailbox({ wait: false });
    const refused = await s.send(id);
    assert.equal(refused.body.code, "no_sending");
    const other = await s.sender();
    const { taken } = await sent(other.id);
    assert.equal(taken[0]?.user, other.user);
    assert.notEqual(user, other.user);
  });
});

describe("the way to the server", () => {
  let s: Outgoing;
  before(async () => {
    s = await outgoing();
  });
  after(() => s.end());

  test("is secured as the mailbox demands: implicit or STARTTLS, by an own CA or a pinned certificate, never less", async () => {
    const certificates = await makeCertificates();
    const { ca, server, wrongName } = certificates;
    const der = Buffer.from(server.cert.replace(/-----[^-]+-----|\s/g, ""), "base64");
    const pin = `sha256/${createHash("sha256").update(der).digest("hex")}`;
    const good = await startSmtpScript({ tls: server });
    const implicit = await startSmtpScript({ tls: server, implicit: true });
    const impostor = await startSmtpScript({ tls: wrongName });
    const plain = await startSmtpScript();
    const { id, user } = await s.sender();
    const through = async (send: object, wait = 1) => {
      const none = { ca: null, fingerprint: null };
      const patched = await s.service.call("PATCH", `/api/v1/mailboxes/${id}`, {
        receive: loginAgain(user),
        send: { ...none, ...send },
      });
      assert.equal(patched.status, 200, JSON.stringify(patched.body));
      return (await s.send(id, {}, { wait })).body;
    };
    try {
      assert.equal((await through({ port: good.port, tls: "starttls", ca }, 20)).state, "sent");
      assert.equal((await through({ port: good.port, tls: "starttls", fingerprint: pin }, 20)).state, "sent");
      assert.equal((await through({ port: implicit.port, tls: "implicit", ca }, 20)).state, "sent");
      assert.equal((await through({ port: implicit.port, tls: "implicit", fingerprint: pin }, 20)).state, "sent");
      const untrusted = await through({ port: good.port, tls: "starttls" });
      assert.equal(untrusted.state, "queued");
      assert.ok(untrusted.reason, "a certificate may be mended, so it is tried again, and says why");
      assert.equal((await through({ port: impostor.port, tls: "starttls", ca })).state, "queued");
      assert.equal(
        (await through({ port: good.port, tls: "starttls", fingerprint: `sha256/${"0".repeat(64)}` })).state,
        "queued",
      );
      const stripped = await through({ port: plain.port, tls: "starttls", ca }, 20);
      assert.equal(stripped.state, "failed");
      assert.match(stripped.reason, /STARTTLS/);
      assert.deepEqual(
        [good.taken.length, implicit.taken.length, impostor.taken.length, plain.taken.length],
        [2, 2, 0, 0],
      );
      const logins = [impostor, plain].flatMap(({ moments }) => moments.filter(({ step }) => step === "auth"));
      assert.deepEqual(logins, [], "no password went to a server that had not proven itself");
    } finally {
      await Promise.all([good, implicit, impostor, plain].map((one) => one.stop()));
    }
  });

  test("is by access token where the mailbox has one", async () => {
    const { id, user } = await s.sender({ auth: { user: "someone", accessToken: "ya29.token" } });
    const answer = await s.send(id, {}, { wait: 20 });
    assert.equal(answer.body.state, "sent", JSON.stringify(answer.body));
    const { line = "" } = s.smtp.moments.findLast(({ step }) => step === "auth") ?? {};
    const [, method, token = ""] = line.split(" ");
    assert.equal(method, "XOAUTH2");
    assert.equal(Buffer.from(token, "base64").toString(), "user=someone\x01auth=Bearer ya29.token\x01\x01");
    assert.notEqual(user, "someone");
    assert.ok(!s.service.output.includes("ya29.token"));
  });

  test("is tried by validate, which names what is wrong", async () => {
    const { body: mailbox } = await s.service.call("GET", `/api/v1/mailboxes/${(await s.sender()).id}`);
    const user = mailbox.receive.auth.user as string;
    const receive = { ...mailbox.receive, auth: { user, password: PASSWORD } };
    const tried = async (send: object) => {
      const body = { address: "me@example.com", receive, send, deliver: { url: s.endpoint.url } };
      const { body: report } = await s.service.call("POST", "/api/v1/mailboxes/validate", body);
      return report.steps.find((step: { name: string }) => step.name === "send");
    };
    s.smtp.play(() => undefined);
    const good = await tried({ host: "127.0.0.1", port: s.smtp.port, tls: "none" });
    assert.ok(good.ok, JSON.stringify(good));
    assert.match(good.detail, /50000000/);
    s.smtp.play(({ step }) => (step === "auth" ? "535 5.7.8 bad credentials" : undefined));
    const bad = await tried({ host: "127.0.0.1", port: s.smtp.port, tls: "none" });
    assert.equal(bad.ok, false);
    assert.match(bad.detail, /bad credentials/);
  });
});
