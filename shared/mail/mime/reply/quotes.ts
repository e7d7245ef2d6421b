/** Finds where the sender's own words end in a plain text: quotations, the lines that announce them, and signatures. */
import { FORWARDED, type Label, LABELS, MOBILE_SIGNATURES, OPENS, ORIGINAL, WROTE } from "./languages.ts";

/** Limits: how much of a line is read, and how many lines an announcement has. */
const MAX_LINE = 400;
const ANNOUNCEMENT_LINES = 4;
const HEADER_LINES = 9;
const SIGNATURE_LINES = 12;
const FOOTER_LINES = 6;
/**
 * If one of this many lines after an announcement is marked as quoted, only marked lines are quoted, and the rest is an
 * answer.
 */
const SIGNS_REACH = 10;

/** What a line has that starts a quotation or announces one. */
const MAY_BEGIN = /[:：]|--/;
const ENDS_WITH_COLON = /[:：]\s*$/;
const QUOTED = /^\s{0,3}>/;
const DATE = /\b(19|20)\d\d\b|\d{1,2}[./]\d{1,2}[./]\d{2}|\d{4}-\d{2}-\d{2}|\d{1,2}[:.]\d{2}\b|\d{1,4}年|\d{1,2}月/u;
const ENDS_WITH_ADDRESS = /<[^<>\s]{1,100}@[^<>\s]{1,200}>\)?\s*[:：]$/;
const ADDRESS = /[^\s<>@]{1,100}@[^\s<>@]{1,200}/;

/** Which lines are the sender's own. After an announcement without marked lines, everything is quoted. */
export function findOwnLines(lines: string[]): boolean[] {
  const own = lines.map((line) => !isQuoted(line));
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? "";
    if (!own[at] || !MAY_BEGIN.test(line)) continue;
    if (isBreak(line) || isHeader(lines, at)) {
      own.fill(false, ruleAbove(lines, at));
      break;
    }
    const from = announcementStart(lines, at);
    if (from === undefined) continue;
    const next = nextText(lines, at + 1);
    const marks = next !== undefined && lines.slice(next, next + SIGNS_REACH).some(isQuoted);
    if (marks) own.fill(false, from, at + 1);
    else if (next === undefined || namesWriter(joinLines(lines, from, at))) {
      own.fill(false, from);
      break;
    }
  }
  return own;
}

function isQuoted(line: string): boolean {
  return line.startsWith(">") || (line.startsWith(" ") && QUOTED.test(line));
}

/** The sender's own lines without signatures: those after `-- `, of phones and of mailing lists. */
export function dropSignatures(own: string[]): string[] {
  const dashes = own.findIndex((line) => line.startsWith("--") && line.trimEnd() === "--");
  const kept = cutSignature(own, dashes, SIGNATURE_LINES + 1);
  const footer = kept.findIndex((line) => line.startsWith("__") && /^_+\s*$/.test(line));
  return dropMobile(cutSignature(kept, footer, FOOTER_LINES));
}

// A signature is short: more lines with text after its first line are no signature.
function cutSignature(lines: string[], from: number, most: number): string[] {
  if (from < 0) return lines;
  const texts = lines.slice(from).filter((line) => line.trim() !== "").length;
  return texts <= most ? lines.slice(0, from) : lines;
}

function dropMobile(lines: string[]): string[] {
  let end = lines.length;
  while (end > 0 && isMobileSignature((lines[end - 1] ?? "").trim())) end--;
  const blank = lines.slice(end).every((line) => line.trim() === "");
  return blank ? lines : lines.slice(0, end);
}

// The signature may be in stars or brackets, and a link may follow it. Empty lines are skipped.
function isMobileSignature(line: string): boolean {
  if (line === "") return true;
  if (line.length > 300) return false;
  const words = line
    .replace(/^[*_<[]{1,5}|[*_>\]]{1,5}$/g, "")
    .replace(/<https?:[^<>]*$|\(https?:[^()]*\)$/, "")
    .trim();
  return words.length < 120 && MOBILE_SIGNATURES.some((one) => one.test(words));
}

/**
 * True if everything after this line is another message: a line between dashes, or one that announces a forwarded
 * message.
 */
function isBreak(line: string): boolean {
  const limited = line.slice(0, MAX_LINE);
  if (limited.includes("--")) return ORIGINAL.test(limited) || isBetweenDashes(limited);
  return ENDS_WITH_COLON.test(limited) && FORWARDED.test(limited);
}

// Zoho: `---- On Mon, 05 Jan 2026 10:00:00 +0100 jane@example.com wrote ----`.
function isBetweenDashes(line: string): boolean {
  return /^\s*-{3,}\s.{10,300}\s-{3,}\s*$/.test(line) && DATE.test(line) && ADDRESS.test(line);
}

// A From, Sent or Date line, with other labels in the lines below it. "From: Berlin, to: Hamburg, date: 5 May" is no
// header.
function isHeader(lines: string[], at: number): boolean {
  const first = labelOf(lines[at] ?? "");
  if (first === undefined || first === "to" || first === "subject") return false;
  const block = lines.slice(at, at + HEADER_LINES).map(labelOf);
  const found = new Set(block.filter((label) => label !== undefined));
  if (!found.has("from") || found.size < 3) return false;
  return found.has("subject") || found.has("sent") || ADDRESS.test(lines[at + block.indexOf("from")] ?? "");
}

const LONGEST_LABEL = 30;

// Gmail writes the labels in bold, as *From:*.
function labelOf(line: string): Label | undefined {
  const start = line.slice(0, LONGEST_LABEL);
  const ascii = start.indexOf(":");
  const colon = ascii < 0 ? start.indexOf("：") : ascii;
  if (colon < 0) return undefined;
  const label = start.slice(0, colon).trim().toLowerCase();
  return LABELS.get(label.includes("*") || label.includes("_") ? label.replace(/[*_]/g, "").trim() : label);
}

// Outlook draws a line above its header.
function ruleAbove(lines: string[], at: number): number {
  let from = at;
  while (from > 0 && (lines[from - 1] ?? "").trim() === "") from--;
  return /^[\s_=-]{5,}$/.test(lines[from - 1] ?? "") ? from - 1 : at;
}

/** The start of the announcement that ends in this line. Undefined if none ends here. */
function announcementStart(lines: string[], at: number): number | undefined {
  const line = (lines[at] ?? "").trimEnd();
  if (!line.endsWith(":") && !line.endsWith("：")) return undefined;
  let start: number | undefined;
  for (let from = at; from >= Math.max(0, at - ANNOUNCEMENT_LINES + 1); from--) {
    const first = (lines[from] ?? "").slice(0, MAX_LINE);
    if (from < at && (first.trim() === "" || isQuoted(first) || ENDS_WITH_COLON.test(first))) break;
    // A line that starts with an address continues the line above it.
    const goesOn = /^\s*</.test(lines[from + 1] ?? "") && from < at;
    if (isAnnouncement(joinLines(lines, from, at)) && (from === at || goesOn || OPENS.test(first))) start = from;
  }
  if (start !== undefined || line.length > 200) return start;
  // If a marked line follows, a name is enough.
  const next = nextText(lines, at + 1);
  if (next === undefined || !isQuoted(lines[next] ?? "")) return undefined;
  return WROTE.test(line) || (next === at + 1 && (DATE.test(line) || ADDRESS.test(line))) ? at : undefined;
}

// In Russian and Japanese, Gmail writes a date, a name and an address without a verb.
function isAnnouncement(joined: string): boolean {
  if (!/[@\d]/.test(joined)) return false;
  if (WROTE.test(joined)) return ADDRESS.test(joined) || (DATE.test(joined) && OPENS.test(joined));
  return DATE.test(joined) && OPENS.test(joined) && ENDS_WITH_ADDRESS.test(joined);
}

// Programs that do not mark quoted lines name the address of the quoted writer. A person who writes "you wrote" does
// not.
function namesWriter(joined: string): boolean {
  return ADDRESS.test(joined) && (WROTE.test(joined) || ENDS_WITH_ADDRESS.test(joined));
}

function joinLines(lines: string[], from: number, to: number): string {
  return lines
    .slice(from, to + 1)
    .map((line) => line.slice(0, MAX_LINE).trim())
    .join(" ");
}

function nextText(lines: string[], from: number): number | undefined {
  for (let at = from; at < lines.length; at++) if ((lines[at] ?? "").trim() !== "") return at;
  return undefined;
}
