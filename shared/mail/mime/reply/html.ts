/**
 * Converts an HTML body to text. Quotations are marked with `>` as in plain text. Signatures that mail programs mark
 * are left out. It takes one pass over any input.
 */
import { decodeHTML } from "entities";
import { findEndTag, readAttributes, readTag } from "../html-tags.ts";

/** Elements with special treatment, innermost last. `balance` counts nested open elements of the same name. */
type Region = { kind: "quote" | "signature"; name: string; balance: number };
type Output = {
  lines: string[];
  line: string;
  regions: Region[];
  /** Open elements in which line breaks count. */ preformatted: number;
};
/** A tag, and the values of its attributes that may mark a region. */
type MarkedTag = { name: string; closing: boolean; marks: string };

/** Nested regions. Deeper ones belong to the same quotation. */
const MAX_REGIONS = 50;
type Effect = "line" | "paragraph" | "hidden";
/** How elements change the text: a new line, an empty line before it, no text at all. Others change nothing. */
const EFFECTS: ReadonlyMap<string, Effect> = new Map([
  ...namesOf("br div tr li pre hr section article header footer center dt dd", "line"),
  ...namesOf("p h1 h2 h3 h4 h5 h6 ul ol table blockquote", "paragraph"),
  ...namesOf("script style title template head", "hidden"),
]);

function namesOf(names: string, effect: Effect): [string, Effect][] {
  return names.split(" ").map((name) => [name, effect]);
}

/** Values of class, id, style and type that mark a quotation or the line that announces it. */
const QUOTATION =
  /\b(moz-cite-prefix|gmail_attr|yahoo_quoted|protonmail_quote|tutanota_quote|zmail_extra_hr|replyforwardmessage|quoted-text|cite)\b/i;
/**
 * After these marks everything is another message: Outlook, its web and phone versions, Hotmail, old Outlook,
 * Entourage.
 */
const REST =
  /\b(divrplyfwdmsg|x_divrplyfwdmsg|appendonsend|mail-editor-reference-message-container|stopspelling|outlookmessageheader|olk_src_body_section|moz-forward-container|zmail_extra)\b|border-top:\s?solid #?(e1e1e1|b5c4df|b5c4de)/i;
const SIGNATURE =
  /\b(gmail_signature(_prefix)?|moz-signature|ms-outlook-mobile-signature|applemailsignature|signatureblock|protonmail_signature_block|gmx_signature)\b|id=signature$/i;
/** Gmail uses the element for quotations to indent text. */
const INDENTATION = /border:\s?none|border-left:\s?(none|0)|webkit-indent/i;
/** The attributes with such marks, and how much of them is read. */
const MARKING = new Set(["class", "id", "style", "type", "data-signatureblock"]);
const MARK = new RegExp(`${QUOTATION.source}|${REST.source}|\\bsignature|${SIGNATURE.source}`, "i");
const MAX_MARKS = 10;
const MAX_MARK = 300;
const BREAK_LINE = "-----Original Message-----";

/** Only the start of the HTML is read, because the new text is there. */
const MAX_CHARACTERS = 1024 * 1024;

/** Converts HTML to lines. A quoted line starts with as many `>` as its quotation is deep. */
export function quoteHtml(whole: string): string {
  const html = whole.slice(0, MAX_CHARACTERS);
  const output: Output = { lines: [], line: "", regions: [], preformatted: 0 };
  const unclosed = new Set<string>();
  let at = 0;
  while (at < html.length) {
    const open = html.indexOf("<", at);
    const stop = open < 0 ? html.length : open;
    if (stop > at) write(output, html.slice(at, stop));
    if (open < 0) break;
    const { name, closing, attributes, next, isText } = readTag(html, open);
    at = next;
    if (isText) write(output, "<");
    if (name === "") continue;
    // Without marks, attributes are not read: most tags have none, or only those of a layout.
    const isMarked = !closing && attributes.length > 1 && (name === "blockquote" || MARK.test(attributes));
    const marks = isMarked ? readMarks(attributes) : "";
    if (!closing && EFFECTS.get(name) === "hidden" && !unclosed.has(name)) {
      const end = findEndTag(html, name, at);
      if (end < 0) unclosed.add(name);
      else at = end;
    } else if (marks !== "" && REST.test(marks)) {
      endLine(output);
      output.lines.push(BREAK_LINE);
      return output.lines.join("\n");
    } else applyTag(output, { name, closing, marks });
  }
  endLine(output);
  return output.lines.join("\n");
}

function applyTag(output: Output, tag: MarkedTag): void {
  if (tag.name === "pre") output.preformatted = Math.max(0, output.preformatted + (tag.closing ? -1 : 1));
  const effect = EFFECTS.get(tag.name);
  if (effect === "line" || effect === "paragraph") {
    if (tag.name === "br" || output.line !== "") endLine(output);
    if (effect === "paragraph" && output.lines.length > 0 && !/^[> ]*$/.test(output.lines.at(-1) ?? ""))
      endLine(output);
  }
  const inner = output.regions.length > 0 ? output.regions.findLast(({ name }) => name === tag.name) : undefined;
  if (tag.closing) {
    if (inner && --inner.balance === 0) output.regions.length = output.regions.indexOf(inner);
    return;
  }
  const kind = kindOf(tag);
  if (kind && output.regions.length < MAX_REGIONS) {
    if (output.line !== "") endLine(output);
    output.regions.push({ kind, name: tag.name, balance: 1 });
  } else if (inner) inner.balance++;
}

function kindOf({ name, marks }: MarkedTag): Region["kind"] | undefined {
  if (marks !== "" && SIGNATURE.test(marks)) return "signature";
  if (name === "blockquote") return INDENTATION.test(marks) ? undefined : "quote";
  return marks !== "" && QUOTATION.test(marks) ? "quote" : undefined;
}

function write(output: Output, encoded: string): void {
  if (output.regions.length > 0 && output.regions.some(({ kind }) => kind === "signature")) return;
  const text = encoded.includes("&") ? decodeHTML(encoded) : encoded;
  if (output.preformatted === 0) {
    add(output, text);
    return;
  }
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (index > 0) endLine(output);
    add(output, line);
  }
}

function add(output: Output, text: string): void {
  // Between the tags of a layout there are only blanks.
  const started = output.line === "" ? text.trimStart() : text;
  if (started !== "") output.line += started.replace(/\s{2,}|[^\S ]/g, " ");
}

function endLine(output: Output): void {
  const depth = output.regions.length > 0 ? output.regions.filter(({ kind }) => kind === "quote").length : 0;
  const line = output.line.trimEnd();
  output.lines.push(depth > 0 ? `${">".repeat(depth)} ${line}` : line);
  output.line = "";
}

function readMarks(attributes: string): string {
  const marks: string[] = [];
  for (const { name, value } of readAttributes(attributes)) {
    if (!MARKING.has(name)) continue;
    const mark = value.slice(0, MAX_MARK);
    marks.push(name === "data-signatureblock" ? "signatureblock" : name === "id" ? `${mark} id=${mark}` : mark);
    if (marks.length === MAX_MARKS) break;
  }
  return marks.join(" ");
}
