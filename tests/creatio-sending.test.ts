/** What the user of a CRM sends and reads: names as people type them, replies, images, and what happened to each recipient. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { outgoingMessageFrom } from "../api/routes/creatio/letter.ts";
import { outcomeText } from "../api/routes/creatio/send.ts";
import type { Recipient, Sending } from "../shared/contract/sending.ts";
import { linkContentIds } from "../shared/mail/content-id.ts";
import { type Outgoing, outgoing } from "./stories/outgoing.ts";

const IMAP = "844f0837-eaa0-4f40-b965-71f5db9eae6e";
const GRAPH = "7b9a3c2d-5e6f-4a1b-8c9d-2e3f4a5b6c7d";

const resultOf = (state: Sending["state"], list: Recipient[]) =>
  outcomeText({ state, recipients: list, reason: null, messageId: "<1@example.com>" } as Sending);

describe("a CRM's outgoing mail", () => {
  let s: Outgoing;
  before(async () => {
    s = await outgoing({ CRM_PLAIN_RELAYS: "127.0.0.1" });
  });
  after(() => s.end());

  const credentials = (more: object = {}) => ({
    Id: randomUUID(),
    SenderEmailAddress: "help@example.com",
    UserName: "help",
    Password: "secret",
    ServerTypeId: IMAP,
    ServiceUrl: "127.0.0.1",
    Port: s.smtp.port,
    UseSsl: false,
    SecureOption: 0,
    ...more,
  });
  const ask = async (path: string, body: object) => {
    const response = await fetch(`${s.service.url}/api/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json; charset=utf-8" },
      body: JSON.stringify(body),
    });
    return response.text();
  };
  const send = async (email: object, more: object = {}) => {
    const earlier = s.smtp.taken.length;
    const Email = {
      Id: `<${randomUUID()}@example.com>`,
      Sender: "help@example.com",
      Subject: "x",
      Body: "x",
      ...email,
    };
    const text = await ask("v2/emails/send", { Email, Credentials: credentials(more) });
    return { text, taken: s.smtp.taken.slice(earlier) };
  };

  test("goes to everybody named, however the names were typed", async () => {
    s.smtp.play(() => undefined);
    const { text, taken } = await send({
      Sender: "ACME: Support [1st level] <help@example.com>",
      Recepients: [
        '"Doe, John (john@acme.example)" <john@acme.example>; Smith, Ann <ann@acme.example>',
        "bob@example.net,",
      ],
    });
    assert.equal(text, "");
    assert.deepEqual(taken[0]?.to, ["john@acme.example", "ann@acme.example", "bob@example.net"]);
    assert.match(taken[0]?.raw ?? "", /^From: "ACME: Support \[1st level\]" <help@example\.com>/m);
  });

  test("is asked about by credentials that do not say where the CRM is: they are valid", async () => {
    await s.mail.addUser("help", "secret");
    const place = { ServiceUrl: s.mail.host, Port: s.mail.imapPort };
    const validated = JSON.parse(await ask("listeners/validate", credentials(place)));
    assert.deepEqual([validated.IsValid, validated.Message], [true, null]);
  });

  test("that names an address which is none says which one", async () => {
    const { text, taken } = await send({ Recepients: ["bob@example.net", "carol(at)example.net"] });
    assert.match(text, /Recipient 2 .*carol\(at\)example\.net/);
    assert.doesNotMatch(text, /\bto\.1\b/);
    assert.deepEqual(taken, []);
  });

  test("that one recipient's server refuses says so with the recipient, and who has the mail", async () => {
    s.smtp.play(({ step, line }) => (step === "rcpt" && line.includes("gone@") ? "550 5.1.1 no such user" : undefined));
    const { text } = await send({ Recepients: ["bob@example.net", "gone@example.net"] });
    assert.match(text, /refused it for gone@example\.net \(550 5\.1\.1 no such user\)/);
    assert.match(text, /Sent already to bob@example\.net/);
  });

  test("through a server type that is not supported is refused by its name, and nothing is tried", async () => {
    const { text } = await send({ Recepients: ["bob@example.net"] }, { ServerTypeId: GRAPH });
    assert.match(text, /Office 365 \(Graph API\)/);
    const validated = JSON.parse(await ask("listeners/validate", credentials({ ServerTypeId: GRAPH })));
    assert.equal(validated.IsValid, false);
    assert.match(validated.Message, /Office 365 \(Graph API\)/);
    const other = randomUUID();
    assert.match(await ask("listeners/validate", credentials({ ServerTypeId: other })), new RegExp(other));
    const impersonating = await ask("listeners/validate", credentials({ UseImpersonation: true }));
    assert.match(impersonating, /UseImpersonation/);
    const id = randomUUID();
    await ask("listeners/recreate", [credentials({ Id: id, ServerTypeId: GRAPH })] as unknown as object);
    assert.equal(await ask("listeners/subscriptionsState", [id] as unknown as object), "{}");
  });
});

describe("the result that a CRM's user reads", () => {
  const recipients: Recipient[] = [
    { address: "a@example.net", state: "sent", response: "250 ok" },
    { address: "b@example.net", state: "queued", response: "450 4.2.0 greylisted" },
  ];
  test("names whom the mail did not reach yet, and who has it already", () => {
    const text = resultOf("queued", recipients);
    assert.match(text, /Not sent yet to b@example\.net \(450 4\.2\.0 greylisted\)/);
    assert.match(text, /Sent already to a@example\.net/);
  });

  test("names all kinds of results at once, and counts where there are many", () => {
    const failed: Recipient[] = Array.from({ length: 8 }, (_, n) => ({
      address: `f${n}@example.net`,
      state: "failed",
      response: "550 no",
    }));
    const text = resultOf("queued", [
      ...recipients,
      ...failed,
      { address: "u@example.net", state: "unknown", response: "lost" },
    ]);
    assert.match(
      text,
      /refused it for f0@example\.net .*and 3 more\. Not sent yet to b@.*may have been sent to u@.*Sent already to a@/,
    );
    assert.equal(resultOf("sent", [{ address: "a@example.net", state: "sent", response: "250" }]), "");
  });
});

describe("an image that the body shows", () => {
  const ID = "image001.png@01D9.ABCD";

  for (const url of [
    '"cid:image001.png@01D9.ABCD"',
    '"cid:image001.png%4001D9.ABCD"',
    '"CID:IMAGE001.PNG@01d9.abcd"',
    '"cid:<image001.png@01D9.ABCD>"',
    '"cid:%3Cimage001.png%4001D9.ABCD%3E"',
    '"cid:&lt;image001.png&#64;01D9.ABCD&gt;"',
    "cid:image001.png@01D9.ABCD",
    '"background: url(&quot;cid:image001.png@01D9.ABCD&quot;)"',
  ])
    test(`is found as ${url}, and the body has the id letter by letter`, () => {
      const { body, linked } = linkContentIds(`<img src=${url}><img src="cid:other">`, ["elsewhere", ID]);
      assert.deepEqual([...linked], [ID]);
      assert.ok(body.includes(`cid:${ID}`), body);
      assert.ok(body.endsWith('<img src="cid:other">'));
    });

  test("with an id that no header can hold gets another one, in the file and in the body alike", () => {
    const file = { Id: "Bild 1 ü.png", Name: "a.png", Base64Data: "aGk=" };
    const Body = '<img src="cid:Bild%201%20%C3%BC.png">';
    const message = outgoingMessageFrom({
      Email: { Recepients: ["a@example.net"], IsHtmlBody: true, Body, Attachments: [file] },
    });
    const [attachment] = message.attachments;
    assert.equal(attachment?.disposition, "inline");
    assert.match(attachment?.contentId ?? "", /^[a-z0-9]+@attachment$/);
    assert.equal(message.html, `<img src="cid:${attachment?.contentId}">`);
  });
});
