/** Servers that send without end: each costs some bytes of its own connection, and its mailbox says what it sent. */
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { readElements } from "../shared/mail/ews/soap/elements.ts";
import { createTraffic } from "../shared/mail/imap/wire/traffic.ts";
import { createIntake } from "../shared/mail/net/intake.ts";
import { runSendStep } from "../shared/mail/sending.ts";
import { PASSWORD } from "./bodies.ts";
import { depsFor, mailboxOn, watchOn } from "./promises/mailbox-rig.ts";
import { answerImap, answerPop3, answerSmtp, type Script, type Spoken, startScripted } from "./servers/scripted.ts";

const MIB = 1024 * 1024;
/** What the kernel's buffers of both sides may hold beside what was read. */
const BUFFERED = 16 * MIB;

/** Floods at the command, and answers everything else. */
type Flood = { name: string; at: RegExp | "greeting"; first?: string; piece: string; takes?: number; cause: RegExp };

const LINE = "x".repeat(1000);
const ROW = '* 1 FETCH (UID 1 FLAGS () RFC822.SIZE 100 INTERNALDATE "01-Jan-2030 00:00:00 +0000")\r\n';
const IMAP_FLOODS: Flood[] = [
  { name: "a greeting without end", at: "greeting", first: "* OK ", piece: LINE, cause: /a line of over 16 KB/ },
  { name: "lines in place of the login", at: /LOGIN/, piece: "* OK here\r\n", cause: /over 64 KB before the login/ },
  {
    name: "a literal of 2 GB",
    at: /LOGIN/,
    first: "* OK {2000000000}\r\n",
    piece: LINE,
    cause: /literal of 2000000000/,
  },
  { name: "a size of a thousand digits", at: /LOGIN/, piece: `* OK {${"0".repeat(1000)}5}\r\n`, cause: /a literal of/ },
  { name: "parentheses", at: /LOGIN/, first: "* 1 FETCH ", piece: "((((((((", cause: /a line of over 16 KB/ },
  { name: "a line after the login", at: /SELECT/, first: "* OK ", piece: LINE, cause: /a line of over 1 MB/ },
  {
    name: "a literal nobody asked for",
    at: /SELECT/,
    first: "* OK {70000}\r\n",
    piece: LINE,
    cause: /literal of 70000/,
  },
  {
    name: "numbers of a search",
    at: /SEARCH/,
    first: "* SEARCH",
    piece: " 1 2 3 4",
    cause: /over 4 MB to SEARCH|line of over 4 MB/,
  },
];
const POP3_FLOODS: Flood[] = [
  {
    name: "a greeting without end",
    at: "greeting",
    first: "+OK ",
    piece: LINE,
    cause: /a line of over 8 KB|before the login/,
  },
  {
    name: "lines before the login",
    at: "greeting",
    first: "+OK\r\n",
    piece: `+OK ${LINE}\r\n`,
    cause: /before the login|over 32 KB/,
  },
  {
    name: "capabilities without end",
    at: /CAPA/,
    first: "+OK\r\n",
    piece: "X\r\n",
    cause: /over 32 KB|before the login/,
  },
  {
    name: "a list without end",
    at: /LIST/,
    first: "+OK\r\n",
    piece: "1 100\r\n",
    takes: 16 * MIB,
    cause: /over 16 MB/,
  },
];

describe("A server that sends without end", () => {
  for (const [protocol, floods, answer, greeting] of [
    ["imap", IMAP_FLOODS, answerImap, "* OK [CAPABILITY IMAP4rev1] hi\r\n"],
    ["pop3", POP3_FLOODS, answerPop3, "+OK hi\r\n"],
  ] as const) {
    for (const flood of floods) {
      test(`by ${protocol}: ${flood.name}`, async () => {
        await using server = await floodingServer(flood, greeting, answer);
        const base = mailboxOn({ host: "127.0.0.1", imapPort: server.port, imapsPort: 0 } as never, "bob", {
          since: "2001-01-01",
        });
        const mailbox = { ...base, receive: { ...base.receive, protocol } } as Mailbox;
        const error = await watchOn(mailbox, depsFor()).ended();
        assert.ok(error instanceof Problem, String(error));
        assert.equal(error.code, "excess", String(error));
        assert.match(error.message, flood.cause);
        assert.ok(server.taken() < (flood.takes ?? 4 * MIB) + BUFFERED, `${server.taken()} bytes were taken`);
      });
    }
  }

  for (const [name, at, first] of [
    ["a greeting without end", "greeting", "220 "],
    ["a greeting of many lines", "greeting", "220-hi\r\n"],
    ["extensions without end", /EHLO/, "250-X\r\n"],
  ] as const) {
    test(`by smtp: ${name}`, async () => {
      const piece = first.endsWith("\n") ? first : LINE;
      await using server = await floodingServer({ name, at, first, piece, cause: /./ }, "220 hi\r\n", answerSmtp);
      const send = {
        host: "127.0.0.1",
        port: server.port,
        tls: "none",
        auth: { user: "b", password: new Secret(PASSWORD) },
      };
      const base = mailboxOn({ host: "127.0.0.1", imapPort: 1, imapsPort: 0 } as never, "bob");
      const step = await runSendStep(depsFor(), { ...base, send } as Mailbox, AbortSignal.timeout(30_000));
      assert.match(step.cause ?? "", /more than the service accepts/);
      assert.ok(server.taken() < BUFFERED, `${server.taken()} bytes were taken`);
    });
  }

  test("by ews: elements, text around them, and content beyond what was announced", async () => {
    const element = "<t:Folder><t:FolderId Id='abc'/></t:Folder>".repeat(1000);
    for (const [first, piece, mostMib] of [
      ["<a><x>", element, 1],
      ["<b>", "x".repeat(65_536), 48],
      ["<a><c>", "QUJD".repeat(16_384), 48],
    ] as const) {
      let taken = 0;
      const chunks = Readable.from(
        (function* () {
          yield Buffer.from(first);
          for (; taken < 300 * MIB; taken += piece.length) yield Buffer.from(piece);
        })(),
        { objectMode: true },
      );
      const all = async () => {
        for await (const _ of readElements(chunks, { names: ["a"], base64: "c", announced: 100 })) assert.fail();
      };
      await assert.rejects(all(), (error) => error instanceof Problem && error.code === "excess");
      assert.ok(taken < mostMib * MIB, `${taken} bytes of ${first}`);
    }
  });
});

async function floodingServer({ at, first = "", piece }: Flood, greeting: string, answer: Script["answer"]) {
  const begin = ({ say, flood }: Spoken) => {
    say(first);
    flood(piece);
  };
  let isFlooding = false;
  const server = await startScripted({
    greeting: at === "greeting" ? begin : greeting,
    answer(spoken) {
      isFlooding ||= at === "greeting" || at.test(spoken.line);
      if (!isFlooding) answer(spoken);
      else if (at !== "greeting") begin(spoken);
    },
  });
  return { ...server, [Symbol.asyncDispose]: () => server.stop() };
}

describe("The traffic of an IMAP connection", () => {
  test("is counted alike in whatever pieces it comes", () => {
    const text = "* 1 FETCH (BODY[] {5}\r\na\r\nb) UID 3 X {2}\r\n)\r FLAGS ())\r\n* OK {x}\r\na1 OK {3\r\n+ {}\r\n";
    for (let size = 1; size <= text.length; size++) {
      const traffic = loggedIn();
      traffic.sent(Buffer.from("a1 UID FETCH 1 (BODY.PEEK[])\r\n"));
      let answers = 0;
      for (let at = 0; at < text.length; at += size) answers += read(traffic, text.slice(at, at + size));
      assert.deepEqual([answers, traffic.openBytes], [4, 0], `in pieces of ${size}`);
    }
  });

  test("may have a message as large as announced, and only where one was asked for", () => {
    const traffic = loggedIn();
    const literal = `* 1 FETCH (BODY[] {${40 * MIB}}\r\n`;
    traffic.sent(Buffer.from("a1 UID FETCH 1 (BODY.PEEK[])\r\n"));
    assert.throws(() => read(traffic, literal), /a literal of 41943040 bytes/);
    const other = loggedIn();
    other.expectContent(40 * MIB);
    other.sent(Buffer.from("a1 UID FETCH 1 (BODY.PEEK[])\r\n"));
    read(other, `* 1 FETCH (BODY[] {5}\r\nabcde)\r\n`);
    read(other, literal);
    const done = loggedIn();
    done.sent(Buffer.from("a1 UID FETCH 1 (BODY.PEEK[])\r\n"));
    read(done, "a1 OK done\r\n");
    assert.throws(() => read(done, "* 1 FETCH (BODY[] {70000}\r\n"), /a literal of 70000/);
  });

  test("may have as many rows as the folder has messages, and others' changes", () => {
    const traffic = loggedIn();
    read(traffic, "* 100000 EXISTS\r\n");
    traffic.sent(Buffer.from("a1 UID FETCH 1:* (UID)\r\n"));
    assert.equal(read(traffic, ROW.repeat(200_000)), 200_000);
    assert.throws(() => read(traffic, ROW.repeat(30_000)), /over 220000 answers to FETCH/);
  });

  test("are asked for as many rows as the folder got messages, and for no row twice", () => {
    const traffic = loggedIn();
    const listing = (news: string, rows: number) => {
      read(traffic, news);
      traffic.sent(Buffer.from("a1 UID FETCH 5:* (UID)\r\n"));
      return traffic.read(Buffer.from(ROW.repeat(rows)), 0, 10_000).unasked;
    };
    assert.deepEqual([listing("* 900 EXISTS\r\n", 900), listing("", 50)], [0, 50]);
    assert.equal(listing(`${"* 1 EXPUNGE\r\n".repeat(400)}* 700 EXISTS\r\n`, 205), 5);
    assert.equal(listing("* 4000000 EXISTS\r\n", 1_500), 500);
  });

  test("ends when the open folder gets another UIDVALIDITY, and not when another folder is opened", () => {
    const traffic = loggedIn();
    const open = (tag: string, uidValidity: number) => {
      traffic.sent(Buffer.from(`${tag} SELECT INBOX\r\n`));
      read(traffic, `* OK [UIDVALIDITY ${uidValidity}] v\r\n${tag} OK done\r\n`);
    };
    open("a1", 7);
    open("a2", 8);
    traffic.sent(Buffer.from("a3 NOOP\r\n"));
    assert.equal(read(traffic, "* OK [UIDVALIDITY 8] as before\r\na3 OK done\r\n"), 2);
    assert.throws(() => read(traffic, "* OK [UIDVALIDITY 9] v\r\n"), /renumbered the open folder/);
  });

  test("may not go on for ever while nobody asks", () => {
    const traffic = loggedIn();
    traffic.sent(Buffer.from("a1 IDLE\r\n"));
    assert.equal(read(traffic, "* 1 EXPUNGE\r\n".repeat(150_000)), 150_000);
    assert.throws(() => read(traffic, "* 1 EXPUNGE\r\n".repeat(100_000)), /that nobody asked for/);
  });
});

describe("The intake of a process", () => {
  test("lets a connection that sends too much wait for its turns, and nobody else", async () => {
    const intake = createIntake();
    using busy = intake.join(() => undefined);
    using quiet = intake.join(() => undefined);
    let waits = 0;
    for (let sent = 0; sent < 20_000; sent += 20) {
      const turn = busy.awaitTurn(20);
      if (turn) waits++;
      if (waits <= 3) await turn;
      assert.equal(quiet.awaitTurn(sent % 200 === 0 ? 1 : 0), undefined);
    }
    assert.ok(waits > 500, `${waits} of 1000`);
  });

  test("lets only the oldest unfinished answer exceed the limit, and wakes the others after it", async () => {
    const intake = createIntake({ maxBytes: 2 * MIB });
    using first = intake.join(() => undefined);
    using second = intake.join(() => undefined);
    using small = intake.join(() => undefined);
    assert.equal(first.hold(MIB), undefined);
    assert.equal(second.hold(MIB), undefined);
    assert.equal(first.hold(50 * MIB), undefined);
    const waiting = second.hold(MIB + 70_000);
    assert.ok(waiting, "over the limit");
    assert.equal(small.hold(100_000), undefined);
    let isAwake = false;
    void waiting.then(() => (isAwake = true));
    first.hold(51 * MIB);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(isAwake, false);
    first.hold(0);
    await waiting;
  });

  test("ends the oldest when it makes the others wait too long", async () => {
    const intake = createIntake({ maxBytes: MIB, maxWaitMs: 100 });
    const { promise: ended, resolve } = Promise.withResolvers<Problem>();
    const slow = intake.join((problem) => {
      slow[Symbol.dispose]();
      resolve(problem);
    });
    using waiting = intake.join(() => assert.fail("the one that waits is not ended"));
    slow.hold(MIB);
    await waiting.hold(MIB);
    assert.equal((await ended).code, "unavailable");
  });
});

function loggedIn() {
  const traffic = createTraffic();
  traffic.loggedIn();
  return traffic;
}
function read(traffic: ReturnType<typeof createTraffic>, text: string): number {
  const chunk = Buffer.from(text, "latin1");
  let answers = 0;
  for (let at = 0; at < chunk.length;) {
    const part = traffic.read(chunk, at, 20);
    answers += part.answers;
    at = part.end;
  }
  return answers;
}
