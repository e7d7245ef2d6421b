/**
 * The service's own clients talk over real sockets to servers whose answers are changed on the way. Whatever arrives, a dialogue ends
 * in time: with what it found, or with a Problem that says the cause.
 */
import assert from "node:assert/strict";
import * as fc from "fast-check";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { openMailbox } from "../../shared/mail/open.ts";
import { openSendSession } from "../../shared/mail/sending.ts";
import { all, depsFor, exchangeMailboxOn, mailboxOn, maildropOn } from "../promises/mailbox-rig.ts";
import { PASSWORD } from "../bodies.ts";
import { startExchange } from "../servers/exchange/server.ts";
import { startImapServer } from "../servers/imap/server.ts";
import { numbered } from "../servers/mail.ts";
import { startPop3Server } from "../servers/pop3.ts";
import { startSmtpScript } from "../servers/smtp-script.ts";
import { type Noise, noises, startNoisyLine } from "./noise.ts";

/** A server, and one dialogue with it through a line of this port. */
export type Dialogue = {
  pieces: readonly string[];
  port: number;
  /** Throws a Problem, or an AssertionError if something is wrong that no noise excuses. */
  talk(port: number, signal: AbortSignal): Promise<void>;
  stop(): Promise<void>;
};

/** How long a command may take, and a whole dialogue, which has about twenty commands and several connections. */
const [COMMAND_MS, DIALOGUE_MS] = [250, 30_000];
const USER = "ann@example.com";
const MESSAGES = 3;

const deps = () => depsFor({ timeouts: { command: COMMAND_MS } });

const SIGNS = [
  "\r\n",
  "\n",
  "\0",
  " ",
  '"',
  "(",
  ")",
  "{",
  "}",
  "<",
  ">",
  "\u00FF",
  "9".repeat(30),
  "-1",
  "a".repeat(3000),
];

// prettier-ignore
const IMAP_PIECES = [...SIGNS, "* ", "+ \r\n", "{10}\r\n", "{999999999}\r\n", "{-1}\r\n", "{1+}\r\n", "* BYE\r\n", "* 1 EXISTS\r\n",
  "* 4294967296 EXISTS\r\n", "* 2 EXPUNGE\r\n", "* 1 FETCH (UID 1)\r\n", "* 1 FETCH (UID 1 BODY[] {5}\r\nhello)\r\n", "* SEARCH 1 2 3\r\n",
  "* ESEARCH (TAG \"A1\") UID ALL 1:4294967295\r\n", "* LIST () \"/\" \"a\"\r\n", "* LIST () NIL INBOX\r\n", "* OK [UIDVALIDITY 0] x\r\n",
  "* OK [UIDNEXT 1] x\r\n", "* CAPABILITY IMAP4rev1\r\n", "* PREAUTH x\r\n", "* NO [ALERT] x\r\n", "((((((((((", "NIL", "UID", "OK", "NO ", "BAD "];
// prettier-ignore
const POP3_PIECES = [...SIGNS, "+OK\r\n", "-ERR\r\n", "-ERR [IN-USE] x\r\n", ".\r\n", "\r\n.\r\n", "..", "1 ", "1 a\r\n", "2 2 2\r\n", "99999999999",
  "+OK 99999 99999999\r\n", "UIDL\r\n", "TOP\r\n", "PIPELINING\r\n", "<1@x>", "+ \r\n"];
// prettier-ignore
const SMTP_PIECES = [...SIGNS, "220 ", "250 ", "250-", "250-SIZE 1\r\n", "354 \r\n", "421 x\r\n", "452 4.2.2 x\r\n", "550 5.1.1 x\r\n", "250-AUTH PLAIN LOGIN\r\n",
  "250-STARTTLS\r\n", "250-PIPELINING\r\n", "334 \r\n", "334 VXNlcm5hbWU6\r\n", "235 x\r\n", "535 5.7.8 x\r\n", "999 x\r\n", "25", "5.1.1"];
// prettier-ignore
const EWS_PIECES = [...SIGNS, "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 401 x\r\n", "Content-Length: 0\r\n", "Content-Length: -1\r\n", "Transfer-Encoding: chunked\r\n",
  "ffffffff\r\n", "0\r\n\r\n", "<a>", "</s:Envelope>", "<![CDATA[", "<!--", "<!DOCTYPE a [<!ENTITY b \"c\">]>", "&b;", "&#0;", "&amp;", "<t:ItemId Id=\"a\"/>",
  "ResponseClass=\"Error\"", "ErrorServerBusy", "<m:ResponseCode>ErrorItemNotFound</m:ResponseCode>", "Set-Cookie: a=b\r\n", "Location: http://127.0.0.1:1/\r\n"];

async function talkToMailbox(mailbox: Mailbox, signal: AbortSignal): Promise<void> {
  const connection = openMailbox[mailbox.receive.protocol](deps(), mailbox);
  try {
    await connection.listFolders(signal);
    for (const batch of await all(connection.listSince(new Date(0), [], signal))) {
      for await (const result of connection.fetch(batch.slice(0, MESSAGES), signal)) {
        assert.ok(
          batch.some(({ uid }) => uid === result.ref.uid),
          "only what was asked for is given",
        );
        if ("problem" in result) assertTelling(result.problem);
        else assert.ok(result.raw.length > 0, "a message has content");
      }
    }
  } finally {
    await connection.close();
  }
}

export async function imapDialogue(): Promise<Dialogue> {
  const server = await startImapServer({ users: { [USER]: PASSWORD }, tls: null });
  await server.appendMany(
    USER,
    "INBOX",
    Array.from({ length: MESSAGES }, (_, index) => numbered(index)),
  );
  const talk = (port: number, signal: AbortSignal) =>
    talkToMailbox(mailboxOn({ ...server, imapPort: port, imapsPort: 0 }, USER), signal);
  return { pieces: IMAP_PIECES, port: server.imapPort, talk, stop: () => server.stop() };
}

export async function pop3Dialogue(): Promise<Dialogue> {
  const server = await startPop3Server();
  // Each dialogue has a maildrop of its own, because a session locks it.
  let count = 0;
  const talk = (port: number, signal: AbortSignal) => {
    const user = `${count++}`;
    server.addUser(user, PASSWORD);
    for (let index = 0; index < MESSAGES; index++) server.add(user, numbered(index));
    return talkToMailbox(maildropOn({ ...server, pop3Port: port, pop3sPort: 0 }, user), signal);
  };
  return { pieces: POP3_PIECES, port: server.port, talk, stop: () => server.stop() };
}

export async function ewsDialogue(): Promise<Dialogue> {
  const server = await startExchange();
  await server.addUser(USER, PASSWORD);
  await server.appendMany(
    USER,
    "inbox",
    Array.from({ length: MESSAGES }, (_, index) => numbered(index)),
  );
  const talk = (port: number, signal: AbortSignal) =>
    talkToMailbox(exchangeMailboxOn({ ...server, port }, USER), signal);
  return { pieces: EWS_PIECES, port: server.port, talk, stop: () => server.stop() };
}

export async function smtpDialogue(): Promise<Dialogue> {
  const server = await startSmtpScript();
  let count = 0;
  const talk = async (port: number, signal: AbortSignal) => {
    const id = `snd_${count++}`;
    const receiving = mailboxOn({ host: "127.0.0.1", imapPort: 1, imapsPort: 0, ca: undefined } as never, USER);
    const settings = { saveSent: "never", perHour: 500, notify: false, allowSelf: false } as const;
    const mailbox: Mailbox = { ...receiving, send: { ...settings, host: "127.0.0.1", port, tls: "none" } };
    const session = await openSendSession(deps(), mailbox, signal);
    try {
      const raw = Buffer.from(`From: test@example.com\r\nTo: bob@example.net\r\nSubject: ${id}.\r\n\r\nx\r\n`);
      const to = ["bob@example.net", "carol@example.net"];
      const order = { id, from: "test@example.com", to, raw, dsn: null, save: false, stepwise: false };
      const { recipients } = await session.send(order, () => Promise.resolve(), signal);
      assert.deepEqual(recipients.map(({ address }) => address).toSorted(), to);
    } finally {
      session.close();
    }
    assert.ok(server.taken.filter((one) => one.raw.includes(`Subject: ${id}.`)).length <= 1, "sent twice");
  };
  return { pieces: SMTP_PIECES, port: server.port, talk, stop: () => server.stop() };
}

/** Plans of noise for dialogues, as many as wanted; the same seed gives the same plans. */
export function planNoise({ pieces }: Dialogue, count: number, seed: number): Noise[][] {
  return fc.sample(noises(pieces), { numRuns: count, seed });
}

/** One dialogue under noise. Rejects if it ends too late or in another way than by its end or a Problem. */
export async function playDialogue(dialogue: Dialogue, plan: Noise[]): Promise<void> {
  const line = await startNoisyLine(dialogue.port, plan);
  const signal = AbortSignal.timeout(DIALOGUE_MS);
  try {
    await dialogue.talk(line.port, signal);
  } catch (error) {
    if (signal.aborted) throw new Error(`no end within ${DIALOGUE_MS / 1000} seconds`, { cause: error });
    if (!(error instanceof Problem)) throw error;
    assertTelling(error);
  } finally {
    await line.stop();
  }
}

function assertTelling(problem: Problem): void {
  assert.ok(problem.message.length > 10 && problem.message.length < 2000, `a cause in words: ${problem.message}`);
  assert.ok(problem.fix.length > 10, `a fix in words: ${problem.fix}`);
}
