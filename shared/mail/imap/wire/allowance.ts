/** What an IMAP server may send: before the login, for each command, and unasked. */
import { Problem } from "../../../contract/problem.ts";
import { excessProblem, maxContentBytes, sizeText } from "../../net/excess.ts";
import { tokenBucket } from "../../net/intake.ts";

/** Counts what a server sends on one connection. Each method throws the Problem of a limit that is exceeded. */
export interface Allowance {
  countBytes(bytes: number): void;
  /**
   * A complete answer that begins with `head`. Returns false if it is one of those that the command asked for one by one.
   * Throws `unavailable` if it gives the open folder another UIDVALIDITY: the uids that are known over this connection
   * mean nothing any more.
   */
  countAnswer(head: string): boolean;
  checkLine(bytes: number): void;
  checkLiteral(bytes: number): void;
  /** Notes a command on its way to the server. */
  sent(bytes: Buffer): void;
  /** The login succeeded: the limits before it no longer count. */
  loggedIn(): void;
  /** The next commands ask for messages of so many bytes, by the server's own words. */
  expectContent(bytes: number): void;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const BEFORE_LOGIN = { bytes: 64 * KIB, line: 16 * KIB, literal: 4 * KIB };
const MAX_LINE = MIB;
const MAX_LITERAL = 64 * KIB;

/** What a command may bring in all. A line of `SEARCH` names many messages. `answers` 0: see `ROW_ANSWERS`. */
type CommandLimits = { answers: number; bytes: number; line: number };
const COMMANDS: Record<string, CommandLimits> = {
  FETCH: { answers: 0, bytes: 128 * MIB, line: MAX_LINE },
  STORE: { answers: 0, bytes: 128 * MIB, line: MAX_LINE },
  SEARCH: { answers: 20_000, bytes: 4 * MIB, line: 4 * MIB },
  LIST: { answers: 40_000, bytes: 16 * MIB, line: MAX_LINE },
  LSUB: { answers: 40_000, bytes: 16 * MIB, line: MAX_LINE },
};
/** What any other command may bring. */
const OTHER_COMMAND = { answers: 1_000, bytes: MIB };
/** Everything beyond that, over all commands: other clients may delete or mark very many messages. */
const UNASKED = { answers: { burst: 200_000, perSecond: 50 }, bytes: { burst: 32 * MIB, perSecond: 16 * KIB } };
/** FETCH and STORE have an answer for each message, and other clients may change every message meanwhile. */
const ROW_ANSWERS = { min: 20_000, perMessage: 2, max: 500_000 };
/** A range may name more numbers than there are messages. */
const MAX_ASKED = 1_000;
const EXISTS = /^\* (\d{1,10}) EXISTS/i;
const EXPUNGE = /^\* \d{1,10} EXPUNGE/i;
const UIDVALIDITY = /^\* OK \[UIDVALIDITY (\d{1,10})\]/i;
const CONTENT = /\b(BODY(\.PEEK)?\[|RFC822|BINARY)/;
const SET = /FETCH ([\d:,*]+)/i;
const COMMAND = /^([A-Za-z0-9]+) (?:UID )?([A-Za-z]+)/;

/** `asked` is the number of messages that a FETCH names. */
type Command = { tag: string; name: string; wantsContent: boolean; asked: number; answers: number; bytes: number };

const NOBODY = { tag: "", name: "", wantsContent: false, asked: 0, answers: Infinity, bytes: Infinity };

export function createAllowance(): Allowance {
  let command: Command = { ...NOBODY };
  let [expected, allBytes] = [0, 0];
  const folder = countFolder();
  let isLoggedIn = false;
  let uidValidity: string | undefined;
  const unasked = { answers: tokenBucket(UNASKED.answers), bytes: tokenBucket(UNASKED.bytes) };

  const limitsOf = ({ name, wantsContent }: Command): CommandLimits | undefined => {
    const limits = COMMANDS[name];
    if (!limits || limits.answers > 0) return limits;
    const { min, perMessage, max } = ROW_ANSWERS;
    const answers = Math.min(max, min + perMessage * folder.exists());
    return { ...limits, answers, bytes: limits.bytes + (wantsContent ? maxContentBytes(expected) : 0) };
  };
  /** Counts one of a kind for the command, and against the rest what is more than the command may bring. */
  function count(kind: "answers" | "bytes", amount: number): void {
    command[kind] += amount;
    const limits = limitsOf(command);
    const most = limits?.[kind] ?? OTHER_COMMAND[kind];
    if (command[kind] <= most || (!limits && unasked[kind].take(amount))) return;
    if (!limits) throw excessProblem(`too many ${kind} that nobody asked for`);
    throw excessProblem(`over ${kind === "bytes" ? sizeText(most) : `${most} answers`} to ${command.name}`);
  }

  /** UIDVALIDITY belongs to the opening of a folder (RFC 9051 section 2.3.1.1). Some servers also say that it changed. */
  function checkUidValidity(head: string): void {
    const [, told] = UIDVALIDITY.exec(head) ?? [];
    if (told === undefined) return;
    const isOpening = command.name === "SELECT" || command.name === "EXAMINE";
    if (!isOpening && uidValidity !== undefined && told !== uidValidity)
      throw new Problem("unavailable", "The server renumbered the open folder");
    uidValidity = told;
  }

  return {
    countBytes(bytes) {
      allBytes += bytes;
      if (isLoggedIn) count("bytes", bytes);
      else if (allBytes > BEFORE_LOGIN.bytes)
        throw excessProblem(`over ${sizeText(BEFORE_LOGIN.bytes)} before the login`);
    },
    countAnswer(head) {
      count("answers", 1);
      folder.hear(head);
      checkUidValidity(head);
      const isAsked = command.answers <= command.asked;
      if (command.tag !== "" && head.startsWith(`${command.tag} `)) command = { ...NOBODY };
      return !isAsked;
    },
    checkLine(bytes) {
      const most = isLoggedIn ? (limitsOf(command)?.line ?? MAX_LINE) : BEFORE_LOGIN.line;
      if (bytes > most) throw excessProblem(`a line of over ${sizeText(most)}`);
    },
    checkLiteral(bytes) {
      const free = isLoggedIn ? MAX_LITERAL : BEFORE_LOGIN.literal;
      const most = isLoggedIn && command.wantsContent ? maxContentBytes(expected) : free;
      if (bytes > most) throw excessProblem(`a literal of ${bytes} bytes where at most ${most} can be`);
    },
    sent(bytes) {
      const [, tag = "", verb = ""] = COMMAND.exec(bytes.toString("latin1", 0, 64)) ?? [];
      if (tag === "") return;
      const name = verb.toUpperCase();
      const wantsContent = name === "FETCH" && CONTENT.test(bytes.toString("latin1"));
      const asked = name === "FETCH" ? folder.countAsked(bytes.toString("latin1")) : 0;
      command = { tag, name, wantsContent, asked, answers: 0, bytes: 0 };
    },
    loggedIn() {
      isLoggedIn = true;
    },
    expectContent(bytes) {
      expected = bytes;
    },
  };
}

/**
 * Counts the messages of the selected folder, and how many of them a FETCH names. A range without end (`5:*`) names those that came
 * since the last such range, so that a server that repeats old rows is not asked for them.
 */
function countFolder() {
  let [exists, listed] = [0, 0];
  const countRange = (range: string): number => {
    if (range.endsWith("*")) return Math.min(exists - listed, MAX_ASKED);
    const [from = 0, to = from] = range.split(":").map(Number);
    return to >= from ? Math.min(to - from + 1, MAX_ASKED) : 0;
  };
  return {
    exists: () => exists,
    hear(head: string): void {
      exists = Number(EXISTS.exec(head)?.[1] ?? exists);
      if (EXPUNGE.test(head)) [exists, listed] = [Math.max(0, exists - 1), Math.max(0, listed - 1)];
      listed = Math.min(listed, exists);
    },
    countAsked(line: string): number {
      const ranges = SET.exec(line)?.[1]?.split(",") ?? [];
      const asked = ranges.reduce((sum, range) => sum + countRange(range), 0);
      if (ranges.some((range) => range.endsWith("*"))) listed = exists;
      return asked;
    },
  };
}
