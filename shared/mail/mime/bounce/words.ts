/**
 * Reads notifications in plain words: from qmail, Exim, OpenSMTPD, Courier, Exchange, Yahoo, Zoho and many others, with
 * one parser for all.
 */
import type { Field } from "../header.ts";
import { fieldValue } from "../header.ts";
import { bareAddress, findAddresses } from "./addresses.ts";
import type { RecipientReport } from "./delivery-status.ts";
import { findReason } from "./reason.ts";
import { chooseStatus, findReplyCode, findStatus } from "./status.ts";

/** How much is read of a text that may be a notification, and of each line. */
export const MAX_TEXT_CHARACTERS = 65_536;
const MAX_LINE = 1000;
const MAX_LINES = 2000;
const MAX_REPORTS = 1000;
/** The longest reason in lines and characters, and how many lines below the recipient it may start. */
const REASON_LINES = 10;
const REASON_REACH = 40;
const MAX_REASON = 1000;

/** Names that mail servers write under: the whole display name, or the local part of the address. */
const SERVER_NAME =
  /^(mailer[-. _]?daemon|post[-_]?master|(e-?)?mail[-. _]?(delivery|daemon)([-. _]?(sub)?system)?|[\w. -]{0,40}delivery (sub)?system|mdaemon( at .{1,60})?|(mail|system) administrator|administrator|(the )?mail system|bounces?|microsoft outlook)$/;
/** Each of these names has one of these words. */
const SERVER_WORD = /daemon|post[-_]?master|delivery|administrator|mail system|bounce|outlook/;
const FAILURE_SUBJECT =
  /undeliver|delivery (status notification|failure|failed|report|has failed|problem|error)|fail(ed|ure) (notice|delivery|to deliver)|failure notice|returned (mail|to sender)|returning message|non[- ]?delivery|could not be delivered|error sending your mail|mail (delivery|could)|not delivered|delivery notification|unzustellbar|zustellung|zurück|non remis|échec|no se pudo entregar|devuelto|mancato recapito|consegna|onbestelbaar|недостав|не доставлен|не удалось доставить|niedostarcz|nedoručiteln|teslim edilemedi|配信|送信できません|退信|無法傳送|无法传递/i;
const FAILURE_WORDS =
  /could ?n[o']t be (delivered|sent)|could not deliver|couldn't deliver|can(no|')t (be )?deliver|unable to (deliver|be delivered|send|relay)|(was|were|is|has|have|had) ?(not|n't) (been )?(delivered|able)|not (be )?(delivered|reach)|did not reach|deliver(y|ing)[^.\n]{0,60}(fail|error|impossible|problem|not possible)|fail(ed|ure)[^.\n]{0,40}(deliver|recipient|address|notice)|undeliver|return(ed|ing)( to sender| mail| message| your)|permanent(ly)? (fatal )?(error|fail)|fatal error|delivery (problem|attempt)|trouble delivering|following (address|recipient)|error (has )?occurred|user unknown|unknown user|mailbox (is )?full|over quota|rejected your|not accepted|message (was )?rejected|invalid user|incorrectly constructed|non remis|n'a pas pu|zugestellt|no pudo|impossibile|недостав|не был|не может быть доставлен|配信でき|届けでき|送信できま|退信/i;
const DELAY_WORDS =
  /has not (yet )?been delivered|not yet been delivered|warning message only|do not need to resend|will (continue|be retried|be tried|keep trying|be retrying)|is delayed|has been delayed|still being retried|delivery (status notification )?\(delay\)|continue (to be )?(trying|tried|attempt)|message will be retried/i;

export type WordsSource = {
  fields: Field[];
  subject: string;
  text: string;
  /** True if the content type names a report. */
  isReport: boolean;
  /** True if it contains the returned message, or its header. */
  hasCopy: boolean;
};

/**
 * The recipients that a notification is about, and the reasons. It must come from a mail server (by its name, or with
 * the null return path) and be about a failure. If the text has several addresses, `copiedRecipients` (To and Cc of the
 * returned message, in lower case) decide.
 */
export function parseWords(source: WordsSource, words: string, copiedRecipients: string[]): RecipientReport[] {
  const named = (fieldValue(source.fields, "x-failed-recipients") ?? "")
    .slice(0, MAX_TEXT_CHARACTERS)
    .split(",")
    .slice(0, MAX_REPORTS)
    .map((one) => bareAddress(one))
    .filter((one) => one !== null);
  if (named.length === 0 && !(isMailServer(source) && isAboutFailure(source, words))) return [];
  const lines = splitLines(words);
  const found = findRecipients(lines, source, copiedRecipients);
  const reports = named.length > 0 ? describeNamed(named, found, lines) : found;
  const action = isSuccess(source, words) ? "delivered" : isDelay(source, words) ? "delayed" : "failed";
  const around = reports.length === 1 ? words.slice(0, 4000) : "";
  return reports.slice(0, MAX_REPORTS).map((said) => toReport(said, action, around));
}

type Said = { recipient: string; diagnostic: string | null };

/** Google says in the reader's language that a group does not exist, or that the sender may not post to it. */
const GOOGLE_GROUPS = /https:\/\/groups\.google\.com\//;

// If the words about the recipient have no code or reason, the words around them may.
function toReport({ recipient, diagnostic }: Said, action: string, around: string): RecipientReport {
  const own = diagnostic ?? "";
  const status = chooseStatus(null, findReplyCode(own) || findStatus(own) ? own : `${own} ${around}`);
  if (action === "delivered") return { recipient, action, status, diagnostic, reason: null };
  const said = tellsReason(own) || around === "" ? findReason(status, own) : findReason(status, `${around} ${own}`);
  const reason = said === "unknown" && GOOGLE_GROUPS.test(around) ? "policy" : said;
  return { recipient, action, status, diagnostic, reason };
}

/**
 * True if a header looks like a mail server's: its name as the sender, the null return path, or the field in which Exim
 * and Gmail name the failed recipients. Anybody can write these, so a notification counts only if it is about a message
 * that was really sent.
 */
export function maySpeakForServer(fields: Field[]): boolean {
  return nameOfServer(fields) || hasNullPath(fields) || fieldValue(fields, "x-failed-recipients") !== undefined;
}

function nameOfServer(fields: Field[]): boolean {
  const from = senderOf(fields);
  if (!SERVER_WORD.test(from)) return addressOfServer(fields);
  // The name is before the address, after it in brackets (`MAILER-DAEMON@x (Mail Delivery System)`), or alone.
  const names = from.split(/[<>()"]/).map((one) => one.trim());
  return names.some((one) => SERVER_NAME.test(one)) || addressOfServer(fields);
}

function addressOfServer(fields: Field[]): boolean {
  const from = senderOf(fields);
  const address = SERVER_WORD.test(from) ? (findAddresses(from).at(-1)?.address ?? "") : "";
  return SERVER_NAME.test(address.slice(0, address.lastIndexOf("@"))) || pathOf(fields).includes("mailer-daemon");
}

function senderOf(fields: Field[]): string {
  return (fieldValue(fields, "from") ?? "").slice(0, 500).toLowerCase();
}

function hasNullPath(fields: Field[]): boolean {
  return pathOf(fields) === "<>";
}

function pathOf(fields: Field[]): string {
  return (fieldValue(fields, "return-path") ?? "").slice(0, 300).toLowerCase().replaceAll(" ", "");
}

// The null return path alone only means "do not answer". Out-of-office replies have it too.
function isMailServer({ fields, subject, isReport, hasCopy }: WordsSource): boolean {
  if (isReport) return true;
  const reply = /^\s*(re|aw|sv|antw?)\s*:/i.test(subject.slice(0, 100));
  if (nameOfServer(fields)) return !reply || addressOfServer(fields);
  const isAnswer = /^\s*auto-replied/i.test(fieldValue(fields, "auto-submitted") ?? "");
  return hasNullPath(fields) && (hasCopy || (!isAnswer && !reply && FAILURE_SUBJECT.test(subject.slice(0, 500))));
}

function isAboutFailure(source: WordsSource, words: string): boolean {
  const oneLine = words.slice(0, 4000).replace(/\s+/g, " ");
  return FAILURE_SUBJECT.test(source.subject.slice(0, 500)) || FAILURE_WORDS.test(oneLine) || isDelay(source, words);
}

// A report of success (RFC 3461) has no words and no code of a failure.
function isSuccess({ subject }: WordsSource, words: string): boolean {
  return (
    /success/i.test(subject.slice(0, 500)) &&
    !/fail|error|undeliver/i.test(subject.slice(0, 500)) &&
    findReplyCode(words) === null
  );
}

function isDelay({ subject }: WordsSource, words: string): boolean {
  return /\bdelay/i.test(subject.slice(0, 500)) || DELAY_WORDS.test(words.slice(0, 4000).replace(/\s+/g, " "));
}

function splitLines(words: string): string[] {
  return words
    .split("\n")
    .slice(0, MAX_LINES)
    .map((line) => line.slice(0, MAX_LINE).trimEnd());
}

/** What may be before an address at the start of a line: bullets, quotes, a label. */
const LEAD =
  /^[\s>*•\-–·"'(<[\d.)]{0,80}(?:(?:to|recipient|recipients|e-?mail|address|user|rcpt to|final-recipient|an|à|para|宛先|收件人|for|full address)\s{0,80}[:：]\s{0,80})?(?:rfc822;\s{0,80})?[<"'\s]{0,80}$/i;
/** Lines with the addresses of senders and servers. */
const NO_RECIPIENT =
  /^\W*(from|sender|reply-to|mail from|envelope[- ]from|return-path|message-id|in-reply-to|a message (sent by|from)|absender|de|by|contact|postmaster|cc|received)\b|mail from:|message-id|postmaster@|mailer-daemon@|please (contact|send|forward|e-?mail|mail)|contact |for (further )?(assistance|help)|message that you sent|from address|sender address|your message from/i;

/** Words beside an address in a sentence that mark it as the recipient. */
const NAMES_RECIPIENT =
  /deliver|rcpt|recipient|address|user|mailbox|account|undeliver|reach|fail|error|reject|refus|group|destin|empf|получ|адрес|宛|アドレス|收件/i;

type Candidate = { address: string; line: number; strong: boolean; rest: string };

function findRecipients(lines: string[], source: WordsSource, copied: string[]): Said[] {
  const candidates = findCandidates(lines, source);
  const known = candidates.filter(({ address }) => copied.includes(address.toLowerCase()));
  const strong = candidates.filter((one) => one.strong);
  const chosen = strong.length > 0 ? strong : known.length > 0 ? known : candidates;
  const unique = new Map<string, Candidate>();
  for (const one of chosen) {
    const key = one.address.toLowerCase();
    if (!unique.has(key)) unique.set(key, one);
  }
  if (unique.size > 0) {
    const places = new Set([...unique.values()].map(({ line }) => line));
    return [...unique.values()].map((one) => ({ recipient: one.address, diagnostic: readReason(lines, one, places) }));
  }
  // No address is in the text, so it is the only recipient of the copy.
  const [only, another] = copied;
  return only !== undefined && another === undefined ? [{ recipient: only, diagnostic: describeFailure(lines) }] : [];
}

function findCandidates(lines: string[], { fields }: WordsSource): Candidate[] {
  const sender = new Set(
    findAddresses((fieldValue(fields, "to") ?? "").slice(0, MAX_LINE)).map(({ address }) => address.toLowerCase()),
  );
  const all: Candidate[] = [];
  for (const [index, line] of lines.entries()) {
    if (all.length >= MAX_REPORTS) break;
    if (NO_RECIPIENT.test(line)) continue;
    const found = findAddresses(line).slice(0, 20);
    for (const [at, { address, from, to }] of found.entries()) {
      const strong = from < 80 && LEAD.test(line.slice(0, from));
      if (!strong && !NAMES_RECIPIENT.test(line)) continue;
      // In `name@x <address@x>` the first one is the name.
      const next = found[at + 1];
      const named = strong && next && /^["')\s]*<$/.test(line.slice(to, next.from)) ? next : undefined;
      const rest = strong ? line.slice(named?.to ?? to) : line;
      all.push({ address: named?.address ?? address, line: index, strong, rest });
      if (strong) break;
    }
  }
  const others = all.filter(({ address }) => !sender.has(address.toLowerCase()));
  return others.length > 0 ? others : all;
}

// The reason is after the address on its line and in the lines below it, up to the next recipient. If a paragraph has
// no reason, the next one is read.
function readReason(lines: string[], { line, rest }: Candidate, places: Set<number>): string | null {
  const own = rest.replace(/^[>\]")'\s]*(<[^<>]{0,300}>)?[:;,.\s]*/, "").trim();
  const reason = own.length > 3 ? [own] : [];
  for (let at = line + 1; at <= line + REASON_REACH && reason.length < REASON_LINES && !places.has(at); at++) {
    const text = (lines[at] ?? "").trim();
    if (text === "" && lines[at - 1]?.trim() !== "" && tellsReason(reason.join(" "))) break;
    if (text !== "" && !/^-{3,}/.test(text)) reason.push(text);
  }
  return limitReason(reason.join(" "));
}

function tellsReason(text: string): boolean {
  return (
    findStatus(text) !== null || findReplyCode(text) !== null || !/^(unknown|temporary)$/.test(findReason(null, text))
  );
}

// If the reason has no place of its own: the first line with a code, else the line about the failure.
function describeFailure(lines: string[]): string | null {
  const coded = lines.findIndex((line) => findStatus(line) !== null || findReplyCode(line) !== null);
  const telling = coded >= 0 ? coded : lines.findIndex((line) => findReason(null, line) !== "unknown");
  const failing = telling >= 0 ? telling : lines.findIndex((line) => FAILURE_WORDS.test(line));
  // Else the first sentence. It may be in a language that no table has.
  const at =
    failing >= 0 ? failing : lines.findIndex((line) => line.trim().length > 20 && findAddresses(line).length === 0);
  return at < 0 ? null : limitReason(lines.slice(at, at + 3).join(" "));
}

function describeNamed(named: string[], found: Said[], lines: string[]): Said[] {
  const told = new Map(found.filter((one) => one.diagnostic !== null).map((one) => [one.recipient.toLowerCase(), one]));
  const diagnostic = describeFailure(lines);
  return named.map((recipient) => told.get(recipient.toLowerCase()) ?? { recipient, diagnostic });
}

function limitReason(text: string): string | null {
  const plain = text.replace(/\s+/g, " ").trim();
  return plain === "" ? null : plain.slice(0, MAX_REASON).toWellFormed();
}

/** Lines that announce the copy of the returned message. */
const COPY_BEGINS =
  /^\W{0,200}(below (this line )?is a copy|this is a copy of|original message( follows| headers?)?\W{0,200}$|the header of the original|(begin|start) of (the )?(original|returned)|(original|returned|undelivered) (message|mail|headers?)( headers?)?( (is|are|follows?|below|attached))?\W{0,200}$|message header|your (original )?message (is|was) (attached|as follows)|included is a copy|content-type: (message|text)\/rfc822|unsent message (below|follows)|-{2,}.{0,60}copy of (your|the) message|bounced e-?mail|original mail|header of (the )?original)/i;
const HEADER_FIELD = /^(return-path|received|dkim-signature|arc-seal|x-original-to):/i;

/** Splits the text of a notification into its words and the copy of the message after them. */
export function splitCopy(text: string): { words: string; copy: string } {
  const lines = text.slice(0, MAX_TEXT_CHARACTERS).replace(/\r\n?/g, "\n").split("\n");
  const at = lines.findIndex((line, index) => {
    const short = line.slice(0, 200).trim();
    if (short === "") return false;
    if (COPY_BEGINS.test(short)) return index > 0;
    return (
      HEADER_FIELD.test(line.slice(0, 200)) &&
      lines.slice(index + 1, index + 4).some((next) => /^(\s+\S|[a-z-]{2,40}:)/i.test(next.slice(0, 100)))
    );
  });
  return at < 0
    ? { words: lines.join("\n"), copy: "" }
    : { words: lines.slice(0, at).join("\n"), copy: lines.slice(at).join("\n") };
}
