/** Converts text to HTML and back, for messages whose pieces come in both forms. Each takes one pass over any input. */
import { decodeHTML, escapeUTF8 } from "entities";
import { findEndTag, readAttributes, readTag } from "./html-tags.ts";

/** Elements that start on a new line. Those with space around them have two line breaks. */
const BREAKS: ReadonlyMap<string, string> = new Map([
  ["br", "\n"],
  ["li", "\n* "],
  ["hr", "\n-------------\n"],
  ...["p", "table", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "blockquote", "pre"].map(
    (name): [string, string] => [name, "\n\n"],
  ),
  ...["div", "tr", "dt", "dd", "section", "article", "header", "footer", "center"].map((name): [string, string] => [
    name,
    "\n",
  ]),
  ["td", " "],
  ["th", " "],
]);
/** Elements whose content is not shown. */
const HIDDEN = new Set(["script", "style", "title", "template"]);

/** The text of HTML. The address of a link follows its text. */
export function htmlToText(html: string): string {
  const pieces: string[] = [];
  const unclosed = new Set<string>();
  let [at, link] = [0, ""];
  while (at < html.length) {
    const open = html.indexOf("<", at);
    const stop = open < 0 ? html.length : open;
    pieces.push(decodeHTML(html.slice(at, stop)).replace(/[ \t\r\n]{2,}|[\t\r\n]/g, " "));
    if (open < 0) break;
    const tag = readTag(html, open);
    at = tag.next;
    if (tag.name === "") {
      if (tag.isText) pieces.push("<");
    } else if (HIDDEN.has(tag.name) && !tag.closing && !unclosed.has(tag.name)) {
      const end = findEndTag(html, tag.name, at);
      if (end < 0) unclosed.add(tag.name);
      else at = end;
    } else if (tag.name === "a") {
      if (tag.closing && link !== "") pieces.push(` (${link})`);
      link = tag.closing ? "" : addressOf(tag.attributes);
    } else pieces.push(tag.closing && tag.name === "li" ? "" : (BREAKS.get(tag.name) ?? ""));
  }
  return pieces
    .join("")
    .replace(/ {2,}/g, " ")
    .replace(/ ?\n ?/g, "\n")
    .replace(/\n{3,}/g, "\n\n")
    .trim();
}

function addressOf(attributes: string): string {
  for (const { name, value } of readAttributes(attributes)) if (name === "href") return decodeHTML(value.trim());
  return "";
}

/** HTML that shows the text unchanged. */
export function textToHtml(text: string): string {
  return `<div>${escapeUTF8(text).replace(/\n/g, "<br />")}</div>`;
}
