/** Finds status codes (RFC 3463) and SMTP reply codes in the text of mail servers. */

const STATUS = /(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)/;
const ALL_STATUS = new RegExp(STATUS, "g");
/** A reply code at the start of the text, or after the words that servers put before it. */
const REPLY = /(?:^|[\s:;,"'([<])([45][0-5]\d)(?=[\s\-:,;"')\]>]|$)/;

/** How much of a text is read. */
const MAX_TEXT = 4000;

/** The first status code in a text, as three numbers with dots. */
export function findStatus(text: string): string | null {
  const match = STATUS.exec(text);
  return match ? `${match[1]}.${Number(match[2])}.${Number(match[3])}` : null;
}

/**
 * The most exact status code in a text: the first that is not only a class (5.0.0, 5.1.0) and not "expired" (4.4.7).
 */
function findExactStatus(text: string): string | null {
  const all = [...text.slice(0, MAX_TEXT).matchAll(ALL_STATUS)].map(
    (match) => `${match[1]}.${Number(match[2])}.${Number(match[3])}`,
  );
  return all.find((one) => !/\.0$|^4\.4\.7$/.test(one)) ?? all[0] ?? null;
}

/** The first SMTP reply code in a text that means a failure. */
export function findReplyCode(text: string): string | null {
  return REPLY.exec(text)?.[1] ?? null;
}

/**
 * The text from its first SMTP reply code on: the words of the server that refused. The whole text if there is none.
 */
export function fromReplyCode(text: string): string {
  const match = REPLY.exec(text);
  return match ? text.slice(match.index) : text;
}

/**
 * The status of one recipient, from the Status field and the text. The field gives the class. If it gives only that
 * (5.0.0), or is about the reporting server (x.3.x, x.5.x), the words of the remote server are more exact. A reply code
 * alone gives a class.
 */
export function chooseStatus(field: string | null, words: string): string | null {
  const [stated, spoken, reply] = [findStatus(field ?? ""), findExactStatus(words), findReplyCode(words)];
  if (stated && spoken) return isMoreExact(spoken, stated, reply) ? spoken : stated;
  const only = stated ?? spoken;
  if (only) return only;
  return reply ? `${reply.charAt(0)}.0.0` : null;
}

function isMoreExact(spoken: string, stated: string, reply: string | null): boolean {
  if (spoken.charAt(0) !== stated.charAt(0)) return reply !== null && reply.charAt(0) === spoken.charAt(0);
  if (spoken.endsWith(".0.0")) return false;
  if (stated.endsWith(".0.0")) return true;
  if (stated.endsWith(".0")) return !spoken.endsWith(".0");
  return /^(5\.3\.|4\.4\.7$|4\.7\.0$|\d\.5\.[1245]$|5\.1\.1$)/.test(stated) && !/\.0$|^5\.5\./.test(spoken);
}
