/** Attacks on STARTTLS (RFC 7817, RFC 8314, "NO STARTTLS" of 2021), for each protocol: none gets a password in clear, or any trust. */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { after, before, describe, test } from "node:test";
import type { Mailbox, Protocol } from "../shared/contract/mailbox.ts";
import { Secret } from "../shared/contract/secret.ts";
import { preflights } from "../shared/mail/open.ts";
import { runSendStep } from "../shared/mail/sending.ts";
import { PASSWORD } from "./bodies.ts";
import { depsFor, mailboxOn } from "./promises/mailbox-rig.ts";
import { type Certificates, makeCertificates } from "./servers/certificates.ts";
import {
  answerImap,
  answerPop3,
  answerSmtp,
  type Script,
  type ScriptedServer,
  type Spoken,
  startScripted,
} from "./servers/scripted.ts";

type Spoke = "imap" | "pop3" | "smtp";
type Trust = { tls?: "none" | "starttls"; ca?: string; fingerprint?: string };
type Step = { name: string; ok: boolean; cause?: string; detail?: string };
/** `passes`: the login works. `words` must not be shown. `silent`: not even through TLS is the password sent. */
type Attack = { name: string; script: Script; passes?: true; trust?: Trust; words?: string; silent?: true };

const EVIL = "visit evil.example";
/** OpenSSL refuses old versions below its security level 1. BoringSSL has no levels. */
const LEGACY = process.versions["bun"] ? "ALL" : "ALL:@SECLEVEL=0";
const OLD_TLS = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: LEGACY } as const;
const IMAP_CLEAR = "IMAP4rev1 STARTTLS";
const IMAP_GREETING = `* OK [CAPABILITY ${IMAP_CLEAR}] hi\r\n`;

let certificates: Certificates;
const pair = () => certificates.server;

/** Answers in clear by `clear`, where it knows the line; through TLS, and to everything else, as a good server. */
const imap = (clear: (spoken: Spoken, tag: string) => boolean, inTls = "IMAP4rev1"): Script["answer"] => {
  return (spoken) => {
    const [tag = "", command = ""] = spoken.line.split(" ");
    if (spoken.isSecure) return answerImap(spoken, inTls);
    if (command.toUpperCase() === "STARTTLS" && clear(spoken, tag)) return undefined;
    return answerImap(spoken, IMAP_CLEAR);
  };
};
const upgradeImap = (answer: string, options: object = {}, inTls?: string): Script["answer"] =>
  imap((spoken, tag) => {
    spoken.say(answer.replaceAll("TAG", tag));
    spoken.startTls({ ...pair(), ...options });
    return true;
  }, inTls);
const refuseImap = (words: string) => imap((spoken, tag) => (spoken.say(`${tag} ${words}\r\n`), true));

const pop3 = (begin: (spoken: Spoken) => void): Script["answer"] => {
  return (spoken) => {
    if (spoken.isSecure) answerPop3(spoken);
    else if (/^STLS/i.test(spoken.line)) begin(spoken);
    else answerPop3(spoken, "STLS\r\n");
  };
};
const smtp = (begin: (spoken: Spoken) => void, inTls?: string): Script["answer"] => {
  return (spoken) => {
    if (spoken.isSecure) answerSmtp(spoken, inTls);
    else if (/^STARTTLS/i.test(spoken.line)) begin(spoken);
    else answerSmtp(spoken, "STARTTLS");
  };
};
const upgrade =
  (answer: string, options: object = {}) =>
  (spoken: Spoken) => {
    spoken.say(answer);
    spoken.startTls({ ...pair(), ...options });
  };
const onlySay = (words: string) => (spoken: Spoken) => spoken.say(words);
/** The words come after the answer, in a packet of their own, instead of a handshake. */
const sayLater = (first: string, words: string) => (spoken: Spoken) => {
  spoken.say(first);
  setTimeout(() => spoken.say(words), 100);
};

const IMAP_ATTACKS: Attack[] = [
  { name: "none", script: { greeting: IMAP_GREETING, answer: upgradeImap("TAG OK go\r\n") }, passes: true },
  {
    name: "the capability is left out",
    script: { greeting: "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n", answer: (spoken) => answerImap(spoken) },
  },
  { name: "STARTTLS is refused by NO", script: { greeting: IMAP_GREETING, answer: refuseImap("NO not now") } },
  { name: "STARTTLS is refused by BAD", script: { greeting: IMAP_GREETING, answer: refuseImap("BAD what") } },
  {
    name: "PREAUTH",
    script: { greeting: `* PREAUTH [CAPABILITY IMAP4rev1] ${EVIL}\r\n`, answer: (spoken) => answerImap(spoken) },
    words: EVIL,
  },
  {
    name: "PREAUTH with STARTTLS",
    script: { greeting: `* PREAUTH [CAPABILITY ${IMAP_CLEAR}] hi\r\n`, answer: upgradeImap("TAG OK go\r\n") },
  },
  {
    name: "capabilities behind the OK, in one packet",
    script: {
      greeting: IMAP_GREETING,
      answer: upgradeImap("TAG OK go\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN X-INJECTED\r\n"),
    },
    words: "X-INJECTED",
  },
  {
    name: "an answer to the next command behind the OK",
    script: { greeting: IMAP_GREETING, answer: upgradeImap("TAG OK go\r\n2 OK in\r\n3 OK in\r\n") },
  },
  {
    name: "an alert behind the OK",
    script: { greeting: IMAP_GREETING, answer: upgradeImap(`TAG OK go\r\n* OK [ALERT] ${EVIL}\r\n`) },
    words: EVIL,
  },
  { name: "half a line behind the OK", script: { greeting: IMAP_GREETING, answer: upgradeImap("TAG OK go\r\nA") } },
  {
    name: "clear words instead of TLS",
    script: {
      greeting: IMAP_GREETING,
      answer: imap((spoken, tag) => (sayLater(`${tag} OK go\r\n`, "* OK still clear\r\n")(spoken), true)),
    },
  },
  {
    name: "other capabilities in clear than in TLS",
    script: {
      greeting: `* OK [CAPABILITY ${IMAP_CLEAR} LOGINDISABLED] hi\r\n`,
      answer: upgradeImap(`TAG OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=X-EVIL] go\r\n`),
    },
    passes: true,
  },
  {
    name: "no login allowed in TLS, whatever was said in clear",
    script: {
      greeting: `* OK [CAPABILITY ${IMAP_CLEAR} AUTH=PLAIN] hi\r\n`,
      answer: upgradeImap("TAG OK go\r\n", {}, "IMAP4rev1 LOGINDISABLED"),
    },
    silent: true,
  },
  {
    name: "no TLS wanted, and LOGINDISABLED",
    script: {
      greeting: "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hi\r\n",
      answer: (spoken) => answerImap(spoken, "IMAP4rev1 LOGINDISABLED"),
    },
    trust: { tls: "none" },
  },
  {
    name: "a referral",
    script: { greeting: "* BYE [REFERRAL imap://evil.example/] moved\r\n", answer: (spoken) => answerImap(spoken) },
  },
  { name: "TLS 1.1", script: { greeting: IMAP_GREETING, answer: upgradeImap("TAG OK go\r\n", OLD_TLS) }, silent: true },
  {
    name: "an unknown authority",
    script: { greeting: IMAP_GREETING, answer: upgradeImap("TAG OK go\r\n") },
    trust: {},
    silent: true,
  },
  {
    name: "another certificate than the pinned one",
    script: { greeting: IMAP_GREETING, answer: upgradeImap("TAG OK go\r\n") },
    trust: { fingerprint: "other" },
    silent: true,
  },
];

const POP3_ATTACKS: Attack[] = [
  { name: "none", script: { greeting: "+OK hi\r\n", answer: pop3(upgrade("+OK go\r\n")) }, passes: true },
  {
    name: "the capability is left out, and STLS refused",
    script: {
      greeting: "+OK hi\r\n",
      answer: (spoken) => (/^STLS/i.test(spoken.line) ? spoken.say("-ERR what\r\n") : answerPop3(spoken, "USER\r\n")),
    },
  },
  {
    name: "STLS is refused with words",
    script: { greeting: "+OK hi\r\n", answer: pop3(onlySay(`-ERR [ALERT] ${EVIL}\r\n`)) },
    words: EVIL,
  },
  {
    name: "answers behind the +OK, in one packet",
    script: { greeting: "+OK hi\r\n", answer: pop3(upgrade("+OK go\r\n+OK injected\r\n+OK injected\r\n")) },
  },
  { name: "half a line behind the +OK", script: { greeting: "+OK hi\r\n", answer: pop3(upgrade("+OK go\r\n+")) } },
  {
    name: "clear words instead of TLS",
    script: { greeting: "+OK hi\r\n", answer: pop3(sayLater("+OK go\r\n", "+OK still clear\r\n")) },
  },
  {
    name: "answers to everything before it is asked",
    script: { greeting: "+OK hi\r\n+OK\r\n.\r\n+OK go\r\n+OK\r\n+OK\r\n+OK\r\n", answer: pop3(upgrade("")) },
  },
  { name: "TLS 1.1", script: { greeting: "+OK hi\r\n", answer: pop3(upgrade("+OK go\r\n", OLD_TLS)) }, silent: true },
  {
    name: "an unknown authority",
    script: { greeting: "+OK hi\r\n", answer: pop3(upgrade("+OK go\r\n")) },
    trust: {},
    silent: true,
  },
  {
    name: "another certificate than the pinned one",
    script: { greeting: "+OK hi\r\n", answer: pop3(upgrade("+OK go\r\n")) },
    trust: { fingerprint: "other" },
    silent: true,
  },
];

const SMTP_ATTACKS: Attack[] = [
  { name: "none", script: { greeting: "220 hi\r\n", answer: smtp(upgrade("220 go\r\n")) }, passes: true },
  {
    name: "the extension is left out, and STARTTLS refused",
    script: {
      greeting: "220 hi\r\n",
      answer: (spoken) => (/^STARTTLS/i.test(spoken.line) ? spoken.say("502 what\r\n") : answerSmtp(spoken)),
    },
  },
  { name: "STARTTLS is refused", script: { greeting: "220 hi\r\n", answer: smtp(onlySay("454 not now\r\n")) } },
  {
    name: "answers behind the 220, in one packet",
    script: { greeting: "220 hi\r\n", answer: smtp(upgrade("220 go\r\n250-evil\r\n250 AUTH PLAIN X-INJECTED\r\n")) },
    words: "X-INJECTED",
  },
  {
    name: "half a line behind the 220",
    script: { greeting: "220 hi\r\n", answer: smtp(upgrade("220 go\r\n250-X-INJECTED")) },
    words: "X-INJECTED",
  },
  {
    name: "clear words instead of TLS",
    script: { greeting: "220 hi\r\n", answer: smtp(sayLater("220 go\r\n", "250 still clear\r\n")) },
  },
  {
    name: "a login offered in clear only",
    script: { greeting: "220 hi\r\n", answer: smtp(upgrade("220 go\r\n"), "8BITMIME") },
    passes: true,
    silent: true,
  },
  { name: "TLS 1.1", script: { greeting: "220 hi\r\n", answer: smtp(upgrade("220 go\r\n", OLD_TLS)) }, silent: true },
  {
    name: "an unknown authority",
    script: { greeting: "220 hi\r\n", answer: smtp(upgrade("220 go\r\n")) },
    trust: {},
    silent: true,
  },
  {
    name: "another certificate than the pinned one",
    script: { greeting: "220 hi\r\n", answer: smtp(upgrade("220 go\r\n")) },
    trust: { fingerprint: "other" },
    silent: true,
  },
];

describe("Under an attack on STARTTLS", () => {
  before(async () => {
    certificates = await makeCertificates();
  });
  let server: ScriptedServer | undefined;
  after(() => server?.stop());

  for (const [protocol, attacks] of [
    ["imap", IMAP_ATTACKS],
    ["pop3", POP3_ATTACKS],
    ["smtp", SMTP_ATTACKS],
  ] as const) {
    describe(`of ${protocol}:`, () => {
      for (const attack of attacks) {
        test(attack.name, async () => {
          server = await startScripted(attack.script);
          try {
            const steps = await tryOn(protocol, server.port, attack.trust ?? { ca: certificates.ca });
            const shown = JSON.stringify(steps);
            const passwords = server.heard.filter(({ line }) => FORMS.some((form) => line.includes(form)));
            assert.deepEqual(
              passwords.filter(({ isSecure }) => !isSecure),
              [],
              "the password was sent in clear",
            );
            if (attack.silent) assert.deepEqual(passwords, []);
            assert.equal(
              steps.every(({ ok }) => ok),
              attack.passes ?? false,
              shown,
            );
            if (attack.words !== undefined) assert.ok(!shown.includes(attack.words), shown);
            if (attack.passes && !attack.silent) assert.ok(passwords.length > 0, "the good login did not happen");
          } finally {
            await server.stop();
          }
        });
      }
    });
  }
});

const FORMS = [
  PASSWORD,
  Buffer.from(PASSWORD).toString("base64"),
  Buffer.from(`\0bob\0${PASSWORD}`).toString("base64"),
];

async function tryOn(protocol: Spoke, port: number, { tls = "starttls", ...trust }: Trust): Promise<Step[]> {
  const deps = depsFor({ timeouts: { command: 2_000 } });
  const { fingerprint, ca } = trust;
  const other = `sha256/${new X509Certificate(certificates.expired.cert).fingerprint256}`;
  const place = {
    host: "127.0.0.1",
    port,
    tls,
    auth: { user: "bob", password: new Secret(PASSWORD) },
    ...(ca !== undefined && { ca }),
    ...(fingerprint !== undefined && { fingerprint: other }),
  };
  const base = mailboxOn({ host: "127.0.0.1", imapPort: port, imapsPort: 0 } as never, "bob");
  const signal = AbortSignal.timeout(30_000);
  if (protocol === "smtp") return [await runSendStep(deps, { ...base, send: place } as Mailbox, signal)];
  const received: Protocol = protocol;
  const mailbox = { ...base, receive: { ...base.receive, ...place, protocol: received } } as Mailbox;
  return (await preflights[received](deps, mailbox, signal)).steps;
}
