/** The preflight of a mailbox: each wrong setting is found at its step, with a cause and a fix in plain words. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createServer } from "node:tls";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { egress } from "../shared/egress.ts";
import { preflights } from "../shared/mail/open.ts";
import { PASSWORD } from "./bodies.ts";
import { depsFor, mailboxOn, watchOn, type Wish } from "./promises/mailbox-rig.ts";
import { makeCertificates } from "./servers/certificates.ts";
import { type ImapServer, startImapServer } from "./servers/imap/server.ts";
import { listenOn } from "./servers/ports.ts";
import { answerImap, answerPop3, type Script, type Spoken, startScripted } from "./servers/scripted.ts";

const { signal } = new AbortController();

describe("A preflight", () => {
  let server: ImapServer;
  before(async () => {
    server = await startImapServer({ users: { bob: PASSWORD } });
  });
  afterEach(() => server.faults.clear());
  after(() => server.stop());
  const bob = (wish: Wish = {}): Mailbox => mailboxOn(server, "bob", wish);

  for (const tls of ["implicit", "starttls", "none"] as const) {
    test(`goes through all steps with tls ${tls}, and leaves no connection behind`, async () => {
      const port = tls === "implicit" ? server.imapsPort : server.imapPort;
      const report = await run(bob({ tls, port }));
      assert.ok(report.ok, JSON.stringify(report));
      assert.deepEqual(report.names, ["dns", "tcp", "tls", "login", "capabilities", "folders", "idle"]);
      assert.ok(report.steps.every((one) => one.ms >= 0 && one.detail));
    });
  }

  const FAILING: [string, () => Wish, string, RegExp][] = [
    ["a name that does not exist", () => ({ host: "no-such-host.invalid" }), "dns", /no host named|name servers/],
    ["a port where nobody listens", () => ({ port: 1 }), "tcp", /refuses connections/],
    [
      "TLS on a port for plain connections",
      () => ({ port: server.imapPort }),
      "tls",
      /does not speak TLS|not answer|cut/,
    ],
    [
      "STARTTLS that is not offered",
      () => {
        server.capabilities.starttls = false;
        return { tls: "starttls", port: server.imapPort };
      },
      "tls",
      /STARTTLS/,
    ],
    [
      "a wrong password",
      () => ({ auth: { user: "bob", password: new Secret("no") } }),
      "login",
      /refused user name or password/,
    ],
    ["a folder that does not exist", () => ({ folders: ["Nope"] }), "folders", /"Nope".*there are "INBOX"/],
    [
      "an IDLE that is never answered",
      () => {
        server.faults.onCommand("IDLE", { hang: true });
        return {};
      },
      "idle",
      /said nothing/,
    ],
  ];
  for (const [name, spoil, step, cause] of FAILING) {
    test(`finds ${name}`, async () => {
      const report = await run(bob(spoil()));
      server.capabilities.starttls = true;
      assert.equal(report.ok, false);
      assert.equal(report.last?.name, step, JSON.stringify(report.steps));
      assert.match(report.last?.cause ?? "", cause);
      assert.ok(report.last?.fix);
    });
  }

  test("finds a forbidden address before anything is sent there", async () => {
    const { accepted } = server;
    const report = await run(bob(), depsFor({ egress: egress("deny") }));
    assert.deepEqual([report.ok, report.names, server.accepted], [false, ["dns"], accepted]);
  });
});

async function run(mailbox: Mailbox, deps = depsFor({ timeouts: { command: 500 } })) {
  const report = await preflights.imap(deps, mailbox, signal);
  return { ...report, names: report.steps.map((one) => one.name), last: report.steps.at(-1) };
}

describe("A STARTTLS that does not come to its end", () => {
  for (const protocol of ["imap", "pop3"] as const)
    for (const [name, begin, cause] of [
      ["cut before its answer", ({ cut }: Spoken) => cut(), /clos|cut|ended|reset/i],
      [
        "cut in the handshake",
        (spoken: Spoken, tag: string) => {
          agree(protocol, spoken, tag);
          setTimeout(spoken.cut, 50);
        },
        /clos|cut|ended|reset|handshake/i,
      ],
      [
        "silent in the handshake",
        (spoken: Spoken, tag: string) => agree(protocol, spoken, tag),
        /took longer than|said nothing/,
      ],
    ] as const)
      test(`is the fault of step tls, and may pass later: ${protocol}, ${name}`, async () => {
        const server = await startScripted(script(protocol, begin));
        try {
          const base = onPort(protocol, server.port);
          const mailbox = { ...base, receive: { ...base.receive, tls: "starttls" } } as Mailbox;
          const { steps } = await preflights[protocol](depsFor({ timeouts: { command: 500 } }), mailbox, signal);
          const last = steps.at(-1);
          assert.deepEqual([last?.name, last?.ok], ["tls", false], JSON.stringify(steps));
          assert.match(last?.cause ?? "", cause);
          const watch = watchOn(mailbox, depsFor({ timeouts: { command: 500 } }));
          const error = await watch.ended();
          await watch.stop();
          assert.ok(error instanceof Problem && error.retry !== "never", String(error));
        } finally {
          await server.stop();
        }
      });
});

describe("A port that is not the mailbox's", () => {
  const OTHERS = [
    ["SMTP", "220 mail.example.org ESMTP Postfix\r\n"],
    ["SSH", "SSH-2.0-OpenSSH_9.2\r\n"],
    ["POP3", "+OK ready\r\n"],
    ["IMAP", "* OK ready\r\n"],
  ] as const;
  for (const [protocol, upper] of [
    ["imap", "IMAP"],
    ["pop3", "POP3"],
  ] as const) {
    for (const [other, greeting] of OTHERS.filter(([name]) => name !== upper))
      test(`and speaks ${other}, not ${upper}, is named in the cause, with the right port in the fix`, async () => {
        const server = await startScripted({ greeting, answer: () => undefined });
        try {
          const mailbox = onPort(protocol, server.port);
          const { steps } = await preflights[protocol](depsFor({ timeouts: { command: 5_000 } }), mailbox, signal);
          const { cause, fix } = steps.at(-1) ?? {};
          assert.equal(cause, `The port does not speak ${upper} but another protocol (${other})`);
          assert.match(fix ?? "", protocol === "imap" ? /993 with TLS/ : /995 with TLS/);
          const watch = watchOn(mailbox, depsFor({ timeouts: { command: 5_000 } }));
          assert.ok(String(await watch.ended()).startsWith(`Problem: ${cause}`));
          await watch.stop();
        } finally {
          await server.stop();
        }
      });

    test(`and waits for TLS, is named to a mailbox of ${upper} without TLS`, async () => {
      const { server: certificate } = await makeCertificates();
      const server = createServer({ key: certificate.key, cert: certificate.cert }, (socket) =>
        socket.on("error", () => undefined),
      );
      const port = await listenOn(server, 0);
      try {
        const deps = depsFor({ timeouts: { command: 30_000 } });
        const { steps } = await preflights[protocol](deps, onPort(protocol, port), signal);
        const { name, cause, fix } = steps.at(-1) ?? {};
        assert.deepEqual(
          [name, cause],
          ["tls", "The port speaks TLS from the first byte, and the mailbox does not begin with TLS"],
        );
        assert.match(fix ?? "", /Set `tls` to `implicit`/);
      } finally {
        server.close();
      }
    });
  }

  for (const [protocol, greeting] of [
    ["imap", "* OK good day and welcome\r\n"],
    ["pop3", "+OK good day and welcome\r\n"],
  ] as const)
    test(`and greets by ${protocol} byte by byte, is given up when the time for its greeting is over`, async () => {
      const answer = protocol === "imap" ? answerImap : answerPop3;
      const server = await startScripted({ greeting: (spoken) => void drip(spoken, greeting), answer });
      try {
        const deps = depsFor({ timeouts: { command: 500 } });
        const { steps } = await preflights[protocol](deps, onPort(protocol, server.port), signal);
        assert.deepEqual([steps.at(-1)?.name, steps.at(-1)?.ok], ["login", false], JSON.stringify(steps));
        assert.match(steps.at(-1)?.cause ?? "", /greeting|did not answer in time/i);
      } finally {
        await server.stop();
      }
    });

  test("and ends the connection without a word, costs no wait", async () => {
    const server = await startScripted({ greeting: ({ cut }) => cut(), answer: () => undefined });
    try {
      const { steps } = await preflights.pop3(depsFor(), onPort("pop3", server.port), signal);
      assert.match(steps.at(-1)?.cause ?? "", /clos|cut|ended|reset/i);
    } finally {
      await server.stop();
    }
  });
});

function onPort<P extends "imap" | "pop3">(protocol: P, port: number): Mailbox {
  const base = mailboxOn({ host: "127.0.0.1", imapPort: port, imapsPort: 0 } as never, "bob");
  return { ...base, receive: { ...base.receive, protocol, tls: "none", port } } as Mailbox;
}

/** A server that begins STARTTLS so, and says nothing more. */
function script(protocol: "imap" | "pop3", begin: (spoken: Spoken, tag: string) => void): Script {
  const greeting = protocol === "imap" ? "* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n" : "+OK hi\r\n";
  const answer = protocol === "imap" ? answerImap : answerPop3;
  const offered = protocol === "imap" ? "IMAP4rev1 STARTTLS" : "STLS\r\n";
  return {
    greeting,
    answer(spoken) {
      const { line } = spoken;
      if (/^(\S+ STARTTLS|STLS)$/i.test(line)) begin(spoken, line.split(" ")[0] ?? "");
      // Anything else than a command is part of a handshake.
      else if (/^[\x20-\x7e]+$/.test(line)) answer(spoken, offered);
    },
  };
}

async function drip({ say }: Spoken, text: string): Promise<void> {
  for (const byte of text) {
    say(byte);
    await sleep(100);
  }
}

function agree(protocol: "imap" | "pop3", { say }: Spoken, tag: string): void {
  say(protocol === "imap" ? `${tag} OK go\r\n` : "+OK go\r\n");
}
