/**
 * Dates in messages: RFC 5322 with its obsolete forms, asctime, ISO 8601, and what else programs write. A date that is
 * ambiguous, or readable only in part, is no date. The runtimes' own parsers accept different forms, so none of them is
 * used.
 */

/** The parts of a date found so far. `offset` is in minutes east of UTC. */
type Found = { day?: number; month?: number; year?: number; time?: Time; noon?: "am" | "pm"; offset?: number };
type Time = { hour: number; minute: number; second: number; ms: number };

const MAX_LENGTH = 200;

/** Names of months: English, and the languages that programs are known to write into this field. */
const MONTHS: ReadonlyMap<string, number> = new Map(
  [
    "jan january janv janvier januar jänner ene enero gen gennaio januari janeiro янв января",
    "feb february fev fév fevr févr février febr februar febrero febbraio februari fevereiro фев февр февраля",
    "mar march mars mär märz mrz marzo maart mrt março мар марта",
    "apr april avr avril abr abril aprile апр апреля",
    "may mai mayo mag maggio mei maio maj май мая",
    "jun june juin juni junio giu giugno junho июн июня",
    "jul july juil juillet juli julio lug luglio julho июл июля",
    "aug august aoû août ago agosto augustus augusti авг августа",
    "sep sept september septembre septiembre set settembre setembro сен сент сентября",
    "oct october octobre octubre okt oktober ott ottobre out outubro окт октября",
    "nov november novembre noviembre novembro ноя нояб ноября",
    "dec december déc décembre dez dezember dic diciembre dicembre dezembro дек декабря",
  ].flatMap((names, index) => names.split(" ").map((name): [string, number] => [name, index + 1])),
);

/**
 * Zone names with one worldwide meaning: RFC 5322 section 4.3 and others. Names such as IST or BST have several
 * meanings. RFC 5322 assigns CST and similar names to America.
 */
const ZONES: ReadonlyMap<string, number> = new Map(
  [
    "ut 0, utc 0, gmt 0, z 0, wet 0, est -300, edt -240, cst -360, cdt -300, mst -420, mdt -360, pst -480, pdt -420",
    "akst -540, akdt -480, hst -600, nst -210, ndt -150, adt -180, brt -180",
    "west 60, cet 60, met 60, mez 60, cest 120, mest 120, mesz 120, sast 120, eet 120, eest 180, msk 180, msd 240",
    "hkt 480, awst 480, jst 540, kst 540, acst 570, acdt 630, aest 600, aedt 660, nzst 720, nzdt 780",
  ].flatMap((row) =>
    row.split(", ").map((zone): [string, number] => [zone.split(" ")[0] ?? "", Number(zone.split(" ")[1])]),
  ),
);

/** A Date field as ISO 8601 in UTC. Null if it cannot be read, or if it is ambiguous. */
export function toIsoDate(value: string | undefined): string | null {
  const plain = PLAIN.exec(value ?? "");
  if (plain) return toDate(readPlain(plain));
  const text = stripComments((value ?? "").slice(0, MAX_LENGTH)).trim();
  const found = readIso(text) ?? readWords(text);
  return found ? toDate(found) : null;
}

/** A fast path for the standard form, which most dates have. */
const PLAIN =
  /^(?:[A-Z][a-z]{2}, {1,2})?(\d{1,2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) ([+-]\d{4})(?: \([A-Z]+\))?$/;

function readPlain([, day, month = "", year, hour, minute, second, zone = ""]: RegExpExecArray): Found {
  const time = { hour: Number(hour), minute: Number(minute), second: Number(second), ms: 0 };
  const [named, offset] = [MONTHS.get(month.toLowerCase()), readZone(zone)];
  if (named === undefined || offset === undefined) return {};
  return { day: Number(day), month: named, year: Number(year), time, offset };
}

const ISO =
  /^(\d{4})[-/.]?(\d{2})[-/.]?(\d{2})[T ]\s*(\d{2}):?(\d{2})(?::?(\d{2})(?:[.,](\d{1,9}))?)?\s*(Z|[A-Z]{2,5}|(?:GMT|UTC)?\s*[+-]\d{2}:?\d{0,2})?$/i;

function readIso(text: string): Found | undefined {
  const [, year, month, day, hour, minute, second = "0", fraction = "", zone] = ISO.exec(text) ?? [];
  if (year === undefined) return undefined;
  const time = { hour: Number(hour), minute: Number(minute), second: Number(second), ms: readFraction(fraction) };
  const offset = zone === undefined ? 0 : readZone(zone);
  return offset === undefined ? {} : { year: Number(year), month: Number(month), day: Number(day), time, offset };
}

/** Reads the words of a date in any unambiguous order. Undefined if a word fits nowhere. */
function readWords(text: string): Found | undefined {
  const words = text
    .toLowerCase()
    .replace(/\s+/g, " ")
    .replace(/ ?: ?/g, ":")
    .replace(/(\d)(?=[ap]\.?m\b)/g, "$1 ")
    .split(/[\s,]+|(?<=\p{L})(?<!gmt|utc?)-(?=\d)|(?<=\d)-(?=\p{L})/u)
    .map((word) => word.replace(/\.$/, ""))
    .filter((word) => word !== "");
  const found: Found = {};
  for (const [index, word] of words.entries()) {
    if (index === 0 && isWeekday(word, words)) continue;
    if (!readWord(found, word, words[index - 1])) return undefined;
  }
  return found;
}

// The day of the week adds no information. `mar` is March, and also a Tuesday in French.
function isWeekday(word: string, words: string[]): boolean {
  return /^\p{L}+$/u.test(word) && (!MONTHS.has(word) || words.slice(1).some((other) => MONTHS.has(other)));
}

function readWord(found: Found, word: string, before: string | undefined): boolean {
  const month = MONTHS.get(word);
  const time = readTime(word);
  if (month !== undefined && found.month === undefined) found.month = month;
  else if (time && !found.time) found.time = time;
  else if (/^[ap]\.?m$/.test(word) && found.time && !found.noon) found.noon = word.startsWith("a") ? "am" : "pm";
  else if (/^\d{1,2}(?:st|nd|rd|th)?$/.test(word) && found.day === undefined) found.day = Number.parseInt(word, 10);
  else if (isYear(word, found)) found.year = fullYear(word);
  else return found.time !== undefined && readOffset(found, word, before);
  return true;
}

function isYear(word: string, { day, year }: Found): boolean {
  return /^\d{2,4}$/.test(word) && year === undefined && (day !== undefined || word.length === 4);
}

// `GMT+0200` and `GMT +0200` are one offset. A name after an offset is only a comment, and often names the wrong half
// of the year.
function readOffset(found: Found, word: string, before: string | undefined): boolean {
  const offset = readZone(word);
  const isName = /^[\p{L}.]+$/u.test(word);
  if (found.offset !== undefined && isName) return true;
  if (offset === undefined) return false;
  if (found.offset !== undefined && found.offset !== offset && !/^(?:gmt|utc?)$/.test(before ?? "")) return false;
  found.offset = offset;
  return true;
}

function readTime(word: string): Time | undefined {
  const [, hour, minute, second = "0", fraction = ""] =
    /^(\d{1,2})[:.h](\d{2})(?:[:.](\d{1,2})(?:[.,](\d{1,9}))?)?$/.exec(word) ?? [];
  if (hour === undefined) return undefined;
  return { hour: Number(hour), minute: Number(minute), second: Number(second), ms: readFraction(fraction) };
}

const readFraction = (digits: string) => Number(digits.padEnd(3, "0").slice(0, 3));

/** Minutes east of UTC. Undefined for a zone that is unknown or ambiguous. */
function readZone(zone: string): number | undefined {
  const [, sign, digits] = /^(?:GMT|UTC?)?\s*([+-])(\d{1,2}:?\d{0,2})$/i.exec(zone) ?? [];
  if (/^0{4}$/.test(zone)) return 0;
  if (digits === undefined) return ZONES.get(zone.toLowerCase());
  const [hours = "", minutes = "0"] = digits.includes(":") ? digits.split(":") : splitOffset(digits);
  const offset = Number(hours) * 60 + Number(minutes);
  if (Number(minutes) > 59 || offset > 24 * 60) return undefined;
  return sign === "-" ? -offset : offset;
}

// The standard form has four digits. In three digits the first one is the hour; one or two digits are hours.
function splitOffset(digits: string): [string, string] {
  return digits.length > 2 ? [digits.slice(0, -2), digits.slice(-2)] : [digits, "0"];
}

// RFC 5322 section 4.3: the two digits 00 to 49 are 20xx; 50 to 99, and three digits, are added to 1900.
function fullYear(digits: string): number {
  const year = Number(digits);
  if (digits.length >= 4) return year;
  return digits.length === 2 && year < 50 ? 2000 + year : 1900 + year;
}

/** The date, if all its parts are in range. Without a zone it counts as UTC (asctime has none). */
function toDate({ day, month, year, time, noon, offset = 0 }: Found): string | null {
  if (day === undefined || month === undefined || year === undefined || time === undefined) return null;
  const hour = noon === undefined ? time.hour : hourOfDay(time.hour, noon);
  if (hour === undefined || time.minute > 59 || time.second > 60 || year < 1900) return null;
  // ISO 8601 writes the end of a day as 24:00.
  if (hour > 24 || (hour === 24 && time.minute + time.second + time.ms > 0)) return null;
  const midnight = new Date(Date.UTC(year, month - 1, day));
  if (midnight.getUTCMonth() !== month - 1 || midnight.getUTCDate() !== day) return null;
  const seconds = (hour * 60 + time.minute - offset) * 60 + time.second;
  return new Date(midnight.getTime() + seconds * 1000 + time.ms).toISOString();
}

function hourOfDay(hour: number, noon: "am" | "pm"): number | undefined {
  if (hour > 12) return noon === "pm" ? hour : undefined;
  return (hour % 12) + (noon === "pm" ? 12 : 0);
}

// The innermost comments first, so that nested ones are removed too.
function stripComments(text: string): string {
  let [before, after] = [text, text.replace(/\([^()]*\)/g, " ")];
  while (before !== after) [before, after] = [after, after.replace(/\([^()]*\)/g, " ")];
  return after.replace(/\([^()]*$/, " ");
}
