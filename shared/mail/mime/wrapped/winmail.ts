/**
 * Replaces winmail.dat (TNEF) in the tree of parts with its content: its body beside the message's own, its files as
 * files.
 */
import { decodeCharset } from "../charset/decode.ts";
import { decodeContent, decodeText } from "../content.ts";
import { readDisposition, readFilename } from "../files.ts";
import { MIME_LIMITS, type LimitedReasons } from "../limits.ts";
import { leaves, newPart, type Part } from "../tree.ts";
import { readTnef, type TnefFile, type TnefMessage } from "../tnef/message.ts";
import { writeMessage } from "./write-message.ts";

const TNEF_TYPE = /^application\/(?:vnd\.)?ms-tnef$/;
const OPTIONS = { decode: decodeCodepage, maxFiles: MIME_LIMITS.attachments };
/** How many streams are opened in one message. */
const MAX_STREAMS = 5;

/** Opens every winmail.dat in the tree. Those that cannot be read stay files. It changes the given tree. */
export function unwrapTnef(root: Part, limited: LimitedReasons): Part {
  const streams = leaves(root).filter(mayBeTnef).slice(0, MAX_STREAMS);
  let result = root;
  for (const stream of streams) {
    const message = readTnef(decodeContent(stream), OPTIONS);
    if (message) result = replace(result, stream, message);
    else limited.add("a winmail.dat that cannot be read kept as an attachment");
  }
  return result;
}

function mayBeTnef(part: Part): boolean {
  if (TNEF_TYPE.test(part.media.type)) return true;
  return (
    part.media.type === "application/octet-stream" && /^winmail\.dat$/i.test(readFilename(part, Buffer.alloc(0)) ?? "")
  );
}

function replace(root: Part, stream: Part, message: TnefMessage): Part {
  const files = message.files.map(toPart);
  const letter = findLetter(root, stream);
  const body = letter ? [] : bodyOf(message);
  if (letter && message.html !== null) {
    // The same body in a better form: Outlook writes the plain text for programs that cannot read the stream.
    const alternative = multipart("alternative", [{ ...letter }, textPart("html", message.html)]);
    Object.assign(letter, alternative);
  }
  if (root === stream) return multipart("mixed", [...body, ...files]);
  return put(root, stream, [...body, ...files]);
}

function put(part: Part, stream: Part, instead: Part[]): Part {
  if (part.boundary === null) return part;
  part.children = part.children.flatMap((child) => (child === stream ? instead : [put(child, stream, instead)]));
  return part;
}

/** The text of the message outside the stream. Undefined if there is none, or if there is HTML too. */
function findLetter(root: Part, stream: Part): Part | undefined {
  const texts = leaves(root).filter(
    (part) =>
      part !== stream && /^text\/(?:plain|html)$/.test(part.media.type) && readDisposition(part) !== "attachment",
  );
  const [first] = texts;
  return first && decodeText(first, decodeContent(first)).trim() !== "" ? first : undefined;
}

// Rich text without words, only with pictures or objects, is given as a file.
function bodyOf({ text, html, rtf }: TnefMessage): Part[] {
  const texts = [...(text?.trim() ? [textPart("plain", text)] : []), ...(html ? [textPart("html", html)] : [])];
  if (texts.length > 1) return [multipart("alternative", texts)];
  if (texts.length > 0 || !rtf) return texts;
  return [filePart({ type: "application/rtf", name: "message.rtf", contentId: null, contentLocation: null }, rtf)];
}

function toPart(file: TnefFile): Part {
  if (!file.message) return filePart(file, file.content);
  const name = `${file.message.subject?.trim() || file.name || "message"}.eml`.replace(/[\r\n]+/g, " ");
  return filePart({ ...file, type: "message/rfc822", name }, writeMessage(file.message));
}

function textPart(subtype: "plain" | "html", text: string): Part {
  const type = `text/${subtype}; charset=utf-8`;
  return leafPart([{ name: "content-type", value: type }], Buffer.from(text));
}

function filePart(
  { type, name, contentId, contentLocation }: Omit<TnefFile, "content" | "message">,
  content: Buffer,
): Part {
  const fields = [
    {
      name: "content-type",
      value: /^[\w.+-]{1,80}\/[\w.+-]{1,80}$/.test(type ?? "") ? (type ?? "") : "application/octet-stream",
    },
  ];
  const filename =
    name === null ? "" : `; filename*=utf-8''${encodeURIComponent(name.toWellFormed()).replaceAll("'", "%27")}`;
  fields.push({ name: "content-disposition", value: `${contentId === null ? "attachment" : "inline"}${filename}` });
  if (contentId !== null) fields.push({ name: "content-id", value: `<${contentId.replace(/[\r\n<>]/g, "")}>` });
  if (contentLocation !== null)
    fields.push({ name: "content-location", value: contentLocation.replace(/[\r\n]/g, "") });
  return leafPart([...fields, { name: "content-transfer-encoding", value: "binary" }], content);
}

function leafPart(fields: Part["fields"], source: Buffer): Part {
  return newPart(fields, "application/octet-stream", { source, from: 0, to: source.length });
}

function multipart(subtype: "mixed" | "alternative", children: Part[]): Part {
  const fields = [{ name: "content-type", value: `multipart/${subtype}` }];
  return { ...leafPart(fields, Buffer.alloc(0)), boundary: "", children };
}

/** Labels of Windows code pages. The others are called windows-N. */
// prettier-ignore
const LABELS: Record<number, string> = {
  932: "shift_jis", 936: "gbk", 949: "euc-kr", 950: "big5", 10000: "macintosh", 20127: "us-ascii",
  20866: "koi8-r", 21866: "koi8-u", 50220: "iso-2022-jp", 50221: "iso-2022-jp", 50222: "iso-2022-jp",
  50225: "iso-2022-kr", 51932: "euc-jp", 51949: "euc-kr", 54936: "gb18030", 52936: "hz-gb-2312", 65000: "utf-7",
  65001: "utf-8", 1200: "utf-16le", 1201: "utf-16be",
};

function decodeCodepage(bytes: Buffer, codepage: number): string {
  const iso = codepage > 28_590 && codepage < 28_606 ? `iso-8859-${codepage - 28_590}` : undefined;
  const dos = codepage < 900 ? `cp${codepage}` : undefined;
  return decodeCharset(bytes, LABELS[codepage] ?? iso ?? dos ?? `windows-${codepage}`);
}
