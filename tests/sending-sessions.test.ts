/** What a server says of one connection is not said of a message, and a connection belongs to one login at one server. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { processLocks } from "../shared/concurrency/locks.ts";
import type { Mailbox, UserAuth } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { egress } from "../shared/egress.ts";
import { oauthTokens } from "../shared/mail/oauth/tokens.ts";
import { openSendSession, runSendStep, type SendingDeps } from "../shared/mail/sending.ts";
import { getEhloName } from "../shared/mail/smtp/connect.ts";
import { senderPool } from "../worker/mail/sender-pool.ts";
import { depsFor, mailboxOn } from "./promises/mailbox-rig.ts";
import { type Moment, type SmtpScript, type SmtpScriptOptions, startSmtpScript } from "./servers/smtp-script.ts";
import { type Outgoing, outgoing } from "./stories/outgoing.ts";

const { signal } = new AbortController();
const NOWHERE = { host: "127.0.0.1", imapPort: 1, imapsPort: 0 } as Parameters<typeof mailboxOn>[0];

type Login = UserAuth;
const password = (word: string): Login => ({ user: "anna@example.com", password: new Secret(word) });

function mailboxFor(smtp: SmtpScript, auth: Login = password("secret"), send: Partial<Mailbox["send"]> = {}): Mailbox {
  const settings = { saveSent: "never", perHour: 500, notify: false, allowSelf: false } as const;
  const place = { host: "127.0.0.1", port: smtp.port, tls: "none" } as const;
  return { ...mailboxOn(NOWHERE, "anna", { auth }), send: { ...settings, ...place, ...send } };
}

function order(to: string[] = ["bob@example.net"], header = "") {
  const raw = Buffer.from(`From: test@example.com\r\nTo: bob@example.net\r\n${header}Subject: x\r\n\r\nx\r\n`);
  return { id: "snd_1", from: "test@example.com", to, raw, dsn: null, save: false, stepwise: false };
}

const open = (mailbox: Mailbox, deps: SendingDeps = depsFor()) => openSendSession(deps, mailbox, signal);
const isAuth = (error: unknown) => error instanceof Problem && error.code === "auth";
const sendWith = async (smtp: SmtpScript, header: string) => {
  const session = await open(mailboxFor(smtp));
  try {
    return await session.send(order(undefined, header), () => Promise.resolve(), signal);
  } finally {
    session.close();
  }
};

const said = (smtp: SmtpScript, step: Moment["step"]) =>
  smtp.moments.filter((one) => one.step === step).map((one) => one.line);

async function withScript(options: SmtpScriptOptions, work: (smtp: SmtpScript) => Promise<void>): Promise<void> {
  const smtp = await startSmtpScript(options);
  try {
    await work(smtp);
  } finally {
    await smtp.stop();
  }
}

for (const pipelining of [true, false]) {
  describe(`a server ${pipelining ? "with" : "without"} PIPELINING that takes so much from one connection`, () => {
    let s: Outgoing;
    before(async () => {
      s = await outgoing({}, { pipelining });
    });
    after(() => s.end());

    for (const farewell of ["421 4.7.0 Error: too many errors", "drop"]) {
      test(`many unknown recipients, then ${farewell}: each is refused once, and the others get the message once`, async () => {
        const { id } = await s.sender();
        const earlier = s.smtp.taken.length;
        const errors = new Map<number, number>();
        s.smtp.play(({ step, line, connection }) => {
          if (step !== "rcpt" || !line.includes("nobody")) return undefined;
          const count = (errors.get(connection) ?? 0) + 1;
          errors.set(connection, count);
          return count > 5 ? farewell : "550 5.1.1 no such user";
        });
        const unknown = Array.from({ length: 13 }, (_, n) => `nobody${n}@example.net`);
        const to = ["first@example.net", ...unknown, "last@example.net"];
        const { body } = await s.send(id, { to });
        const sending = await s.until(body.id, "failed");
        const states = sending.recipients.map((one: any) => [one.address, one.state]);
        assert.deepEqual(
          Object.fromEntries(states),
          Object.fromEntries(to.map((one) => [one, one.startsWith("nobody") ? "failed" : "sent"])),
        );
        const refused = sending.recipients.filter((one: any) => one.state === "failed");
        assert.ok(refused.every((one: any) => one.response.includes("no such user")));
        assert.deepEqual(
          s.smtp.taken.slice(earlier).map((one) => one.to),
          [["first@example.net", "last@example.net"]],
        );
        assert.equal(sending.attempts, 1, "the connections of one attempt");
      });
    }

    test("one recipient at which the server cuts every connection does not keep the message from the others", async () => {
      const { id } = await s.sender();
      const earlier = s.smtp.taken.length;
      s.smtp.play(({ step, line }) => (step === "rcpt" && line.includes("poison") ? "drop" : undefined));
      const to = ["a@example.net", "poison1@example.net", "b@example.net", "poison2@example.net"];
      const { body } = await s.send(id, { to });
      const read = async () => (await s.service.call("GET", `/api/v1/messages/${body.id}`)).body;
      await s.service.until("the good ones to have it", async () => (await read()).recipients[2].state === "sent");
      const { recipients } = await read();
      assert.deepEqual(
        recipients.map((one: any) => one.state),
        ["sent", "queued", "sent", "queued"],
      );
      s.smtp.play(() => undefined);
      await s.until(body.id, "sent");
      const copies = s.smtp.taken.slice(earlier).flatMap((one) => one.to);
      assert.deepEqual(copies.toSorted(), to.toSorted());
    });

    test("a number of recipients: the rest gets the message at once over further connections, nobody twice", async () => {
      const { id } = await s.sender();
      const earlier = s.smtp.taken.length;
      const recipients = new Map<number, number>();
      s.smtp.play(({ step, connection }) => {
        if (step !== "rcpt") return undefined;
        const count = (recipients.get(connection) ?? 0) + 1;
        recipients.set(connection, count);
        return count > 4 ? "452 4.5.3 Error: too many recipients" : undefined;
      });
      const to = Array.from({ length: 11 }, (_, n) => `r${n}@example.net`);
      const { body } = await s.send(id, { to });
      const sending = await s.until(body.id, "sent");
      assert.equal(sending.attempts, 1);
      assert.deepEqual(
        s.smtp.taken.slice(earlier).map((one) => one.to.length),
        [4, 4, 3],
      );
      assert.deepEqual(
        s.smtp.taken
          .slice(earlier)
          .flatMap((one) => one.to)
          .toSorted(),
        to.toSorted(),
      );
    });

    for (const refusal of [
      "452 4.4.5 maximum number of messages per session exceeded",
      "554 5.5.1 enough for now",
      "421 too many messages in this connection",
    ]) {
      test(`a number of messages, then ${refusal}: the next one goes over another connection`, async () => {
        const { id } = await s.sender({ connections: 1 });
        const earlier = s.smtp.taken.length;
        const messages = new Map<number, number>();
        s.smtp.play(({ step, connection }) => {
          if (step === "taken") messages.set(connection, (messages.get(connection) ?? 0) + 1);
          return step === "mail" && (messages.get(connection) ?? 0) >= 2 ? refusal : undefined;
        });
        const answers = await Promise.all(Array.from({ length: 5 }, () => s.send(id, {}, { wait: 30 })));
        assert.deepEqual(
          answers.map(({ body }) => [body.state, body.attempts]),
          answers.map(() => ["sent", 1]),
        );
        assert.equal(s.smtp.taken.length - earlier, 5);
      });
    }

    test("what a fresh connection refuses is refused: the server is not asked without end", async () => {
      const { id } = await s.sender();
      const earlier = s.smtp.connections.all;
      s.smtp.play(({ step }) => (step === "mail" ? "550 5.7.1 not you" : undefined));
      const { body } = await s.send(id, {}, { wait: 30 });
      assert.deepEqual([body.state, body.attempts], ["failed", 1]);
      assert.ok(s.smtp.connections.all - earlier <= 2);
    });
  });
}

describe("a connection that is kept", () => {
  test("is used by the next message of the same login, and by none of another login or server, whatever the revision", () =>
    withScript({}, (smtp) =>
      withScript({}, async (other) => {
        const pool = senderPool(depsFor());
        const send = async (mailbox: Mailbox) => {
          const { recipients } = await pool.send(mailbox, order(), () => Promise.resolve(), signal);
          assert.equal(recipients[0]?.state, "sent");
        };
        smtp.play(({ step, line }) =>
          step === "auth" &&
          Buffer.from(line.split(" ")[2] ?? "", "base64")
            .toString()
            .endsWith("\0wrong")
            ? "535 5.7.8 no"
            : undefined,
        );
        try {
          await send(mailboxFor(smtp));
          await send({ ...mailboxFor(smtp), revision: 7 });
          assert.equal(smtp.connections.all, 1);
          await assert.rejects(send(mailboxFor(smtp, password("wrong"))), isAuth);
          await send(mailboxFor(smtp, password("another")));
          assert.equal(smtp.connections.all, 3);
          await send(mailboxFor(other, password("another")));
          assert.deepEqual([smtp.taken.length, other.taken.length], [3, 1]);
        } finally {
          await pool.run(AbortSignal.abort());
        }
      }),
    ));
});

describe("logging in to send", () => {
  for (const mechanism of ["PLAIN", "LOGIN", "CRAM-MD5"]) {
    test(`uses ${mechanism} where the server offers it alone`, () =>
      withScript({ mechanisms: ["GSSAPI", mechanism] }, async (smtp) => {
        const prompts = { LOGIN: "334 VXNlcm5hbWU6", "CRAM-MD5": "334 PDEuMkBleGFtcGxlPg==" } as Record<string, string>;
        smtp.play(({ step }) => (step === "auth" && prompts[mechanism]) || undefined);
        const opened = open(mailboxFor(smtp)).catch(() => undefined);
        const [auth = ""] = await smtp.reached("auth").then(() => said(smtp, "auth"));
        assert.equal(auth.split(" ")[1], mechanism);
        // The script does not go on with a mechanism of several lines.
        await smtp.stop();
        (await opened)?.close();
      }));
  }

  test("says no password where the server offers no mechanism for one, and names what it offers", () =>
    withScript({ mechanisms: ["GSSAPI", "NTLM", "XOAUTH2"] }, async (smtp) => {
      await assert.rejects(open(mailboxFor(smtp)), (error) => {
        assert.ok(error instanceof Problem && error.code === "auth_method");
        assert.match(error.message, /GSSAPI, NTLM, XOAUTH2/);
        return true;
      });
      assert.deepEqual(said(smtp, "auth"), []);
    }));

  test("says no password to a server that knows no EHLO", () =>
    withScript({}, async (smtp) => {
      smtp.play(({ step, line }) => (step === "ehlo" && line.startsWith("EHLO") ? "502 what?" : undefined));
      (await open(mailboxFor(smtp))).close();
      assert.deepEqual(said(smtp, "auth"), []);
    }));

  for (const reply of ["535 5.7.3 authentication unsuccessful", "501 5.5.4 go away", "454 4.7.0 cannot check"]) {
    test(`shows a token that is refused with ${reply} once, and then a new one`, () =>
      withScript({ mechanisms: ["XOAUTH2"] }, async (smtp) => {
        let given = 0;
        const server = createServer((_, response) =>
          response
            .writeHead(200, { "content-type": "application/json" })
            .end(JSON.stringify({ access_token: `token${++given}`, token_type: "Bearer", expires_in: 3600 })),
        );
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        const { port } = server.address() as { port: number };
        const tokenUrl = `http://127.0.0.1:${port}/token`;
        const auth = { user: "a@example.com", oauth2: { tokenUrl, clientId: "c", refreshToken: new Secret("r") } };
        const guard = egress("allow");
        const refreshTokens = { read: async () => undefined, replace: async () => undefined };
        const deps = { ...depsFor(), tokens: oauthTokens({ egress: guard, locks: processLocks(), refreshTokens }) };
        const shown: string[] = [];
        smtp.play(({ step, line }) => {
          if (step !== "auth") return undefined;
          const token = /Bearer (\w+)/.exec(Buffer.from(line.split(" ")[2] ?? "", "base64").toString())?.[1] ?? "";
          shown.push(token);
          return token === "token1" ? reply : undefined;
        });
        try {
          (await open(mailboxFor(smtp, auth), deps)).close();
          assert.deepEqual(shown, ["token1", "token2"]);
          smtp.play(({ step }) => (step === "auth" ? reply : undefined));
          await assert.rejects(open(mailboxFor(smtp, auth), deps));
          assert.ok(given <= 3, "one new token for one login");
        } finally {
          server.close();
          server.closeAllConnections();
        }
      }));
  }

  const replies: [string, string, RegExp][] = [
    ["535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.", "auth", /refused the login/],
    ["535 5.7.139 Authentication unsuccessful, basic authentication is disabled.", "auth_method", /does not allow/],
    ["535 5.7.139 SmtpClientAuthentication is disabled for the Tenant.", "auth_method", /does not allow/],
    ["534 5.7.9 Application-specific password required.", "auth_method", /app password/],
    ["535 5.7.8 Error: too many failed logins, try again in 15 minutes", "throttled", /no more logins/],
    ["535 5.7.0 Temporary authentication failure", "unavailable", /now/],
    ["454 4.7.0 Temporary authentication failure", "unavailable", /now/],
    ["538 5.7.11 Encryption required for requested mechanism", "auth_method", /TLS/],
    ["504 5.7.4 Unrecognized authentication type", "auth_method", /another way/],
    ["554 5.3.5 local configuration error", "unavailable", /name no reason/],
  ];
  for (const [reply, code, cause] of replies) {
    test(`takes ${reply} for ${code}`, () =>
      withScript({}, async (smtp) => {
        smtp.play(({ step }) => (step === "auth" ? reply : undefined));
        await assert.rejects(open(mailboxFor(smtp)), (error) => {
          assert.ok(error instanceof Problem);
          assert.deepEqual([error.code, error.evidence], [code, reply]);
          assert.match(error.message, cause);
          assert.equal(error.retry instanceof Date, /15 minutes/.test(reply));
          return true;
        });
      }));
  }
});

test("a validation that fails begins with the server's own words", () =>
  withScript({}, async (smtp) => {
    smtp.play(({ step }) => (step === "auth" ? "535 5.7.8 Ask Bob in room 4" : undefined));
    const step = await runSendStep(depsFor(), mailboxFor(smtp), signal);
    assert.equal(step.ok, false);
    assert.match(step.cause ?? "", /^535 5\.7\.8 Ask Bob in room 4 /);
  }));

test("EHLO says the name of the setting, else the machine's full name, else the sender's domain", () =>
  withScript({}, async (smtp) => {
    (await openSendSession({ ...depsFor(), ehloName: "mail.example.com" }, mailboxFor(smtp), signal)).close();
    assert.deepEqual(said(smtp, "ehlo"), ["EHLO mail.example.com"]);
    assert.equal(getEhloName("mx1.example.org", "a@example.com"), "mx1.example.org");
    for (const host of ["4f1c2a", "localhost.localdomain", "10.0.0.1", "localhost"])
      assert.equal(getEhloName(host, "a@bücher.example"), "xn--bcher-kva.example");
  }));

describe("an international address in the header", () => {
  const header = "Reply-To: jürgen@example.com\r\n";

  test("asks for SMTPUTF8 in the envelope of this message alone", () =>
    withScript({}, async (smtp) => {
      const session = await openSendSession(depsFor(), mailboxFor(smtp), signal);
      for (const lines of [header, "", "Reply-To: Jürgen <j@example.com>\r\n"])
        await session.send(order(undefined, lines), () => Promise.resolve(), signal);
      session.close();
      assert.deepEqual(
        said(smtp, "mail").map((line) => line.includes("SMTPUTF8")),
        [true, false, false],
      );
    }));

  test("is refused in clear words for a server that does not take it, before anything is sent", () =>
    withScript({ offers: [] }, async (smtp) => {
      await assert.rejects(sendWith(smtp, header), (error) => {
        assert.ok(error instanceof Problem && error.code === "refused" && error.retry === "never");
        assert.match(error.message, /international addresses/);
        return true;
      });
      assert.deepEqual(said(smtp, "mail"), []);
    }));

  test("is refused for that recipient alone where only the envelope has it (Bcc)", () =>
    withScript({ offers: [] }, async (smtp) => {
      const session = await openSendSession(depsFor(), mailboxFor(smtp), signal);
      const wanted = { ...order(), to: ["bob@example.net", "jürgen@example.net"] };
      const { recipients } = await session.send(wanted, () => Promise.resolve(), signal);
      session.close();
      assert.deepEqual(
        recipients.map(({ address, state }) => [address, state]),
        [
          ["bob@example.net", "sent"],
          ["jürgen@example.net", "failed"],
        ],
      );
      assert.match(recipients[1]?.response ?? "", /international addresses/);
      assert.deepEqual(said(smtp, "rcpt"), ["RCPT TO:<bob@example.net>"]);
    }));
});
