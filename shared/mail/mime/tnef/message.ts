/**
 * A message that Outlook packed into winmail.dat (TNEF): its body and its files. Nothing in it is trusted; every size
 * is checked.
 */
import { type Attribute, ATTRIBUTE, readAttributes } from "./attributes.ts";
import { type Properties, PROPERTY, readProperties } from "./properties.ts";
import { type DecodeCodepage, readRtf } from "./rtf.ts";
import { decompressRtf } from "./rtf-decompress.ts";

/** A file in the stream. It has `message` if it is a message itself, else `content`. */
export type TnefFile = {
  name: string | null;
  type: string | null;
  contentId: string | null;
  contentLocation: string | null;
  content: Buffer;
  message: TnefMessage | null;
};

/** `rtf` is the rich text from which `text` was made, if the body was written in it. */
export type TnefMessage = {
  subject: string | null;
  from: { name: string; address: string } | null;
  date: Date | null;
  text: string | null;
  html: string | null;
  rtf: Buffer | null;
  files: TnefFile[];
};

export type TnefOptions = { decode: DecodeCodepage; maxFiles: number };

/** How deep messages may be nested. */
const MAX_DEPTH = 4;
const DEFAULT_CODEPAGE = 1252;
const UTF8_CODEPAGE = 65_001;
const EMBEDDED_MESSAGE = 5;
/** An interface id (IID_IMessage or similar) is before the data of an object. */
const INTERFACE_ID_BYTES = 16;
const WINDOWS_EPOCH_MS = 11_644_473_600_000;
const TEXT_BYTES = 16 * 1024 * 1024;

type Open = { options: TnefOptions; depth: number; /** Files that may still be added. */ left: number };

/** Parses a TNEF stream. Undefined if the bytes are none. */
export function readTnef(bytes: Buffer, options: TnefOptions): TnefMessage | undefined {
  return readMessage(bytes, { options, depth: 0, left: options.maxFiles });
}

function readMessage(bytes: Buffer, open: Open): TnefMessage | undefined {
  const attributes = readAttributes(bytes);
  if (!attributes) return undefined;
  const codepage = attributes.find(({ id }) => id === ATTRIBUTE.codepage)?.data;
  const number = codepage && codepage.length >= 4 ? codepage.readUInt32LE(0) : DEFAULT_CODEPAGE;
  const decode = (value: Buffer) => open.options.decode(value, number).replace(/\0.*$/s, "");
  const first = attributes.findIndex(({ id }) => id === ATTRIBUTE.attachRendering);
  const own = first < 0 ? attributes : attributes.slice(0, first);
  const files =
    first < 0 ? [] : splitFiles(attributes.slice(first)).flatMap((parts) => readFile(parts, decode, open) ?? []);
  return { ...readLetter(own, decode, open.options), files };
}

function readLetter(
  own: Attribute[],
  decode: (value: Buffer) => string,
  options: TnefOptions,
): Omit<TnefMessage, "files"> {
  const find = (id: number) => own.find((attribute) => attribute.id === id)?.data;
  const properties = readProperties(find(ATTRIBUTE.messageProperties) ?? Buffer.alloc(0), decode);
  const [subject, body] = [find(ATTRIBUTE.subject), find(ATTRIBUTE.body)];
  const text = textOf(properties, PROPERTY.body) ?? (body ? decode(body) : null);
  const html = readHtml(properties, options);
  const packed = properties.get(PROPERTY.rtfCompressed)?.bytes;
  const rtf = packed && !html ? decompressRtf(packed.subarray(0, TEXT_BYTES)) : undefined;
  const rich = rtf && readRtf(rtf, options.decode);
  const address = textOf(properties, PROPERTY.senderSmtp);
  return {
    subject: textOf(properties, PROPERTY.subject) ?? (subject ? decode(subject) : null),
    from: address?.includes("@") ? { name: textOf(properties, PROPERTY.senderName) ?? "", address } : null,
    date: readTime(properties.get(PROPERTY.clientSubmitTime)?.bytes),
    text: text || (rich && !rich.isHtml ? rich.text : null) || null,
    html: html ?? (rich?.isHtml ? rich.text : null),
    rtf: rtf && !rich?.isHtml ? rtf : null,
  };
}

// PidTagBodyHtml is a string, or bytes in the charset that the message uses on the Internet.
function readHtml(properties: Properties, { decode }: TnefOptions): string | null {
  const html = properties.get(PROPERTY.html);
  if (!html || html.bytes.length === 0) return null;
  const codepage = properties.get(PROPERTY.internetCodepage)?.number ?? UTF8_CODEPAGE;
  const text = html.text ?? decode(html.bytes.subarray(0, TEXT_BYTES), codepage).replace(/\0+$/, "");
  return text.trim() === "" ? null : text;
}

function splitFiles(attributes: Attribute[]): Attribute[][] {
  const files: Attribute[][] = [];
  for (const attribute of attributes) {
    if (attribute.id === ATTRIBUTE.attachRendering) files.push([]);
    else files.at(-1)?.push(attribute);
  }
  return files;
}

function readFile(parts: Attribute[], decode: (value: Buffer) => string, open: Open): TnefFile | undefined {
  const find = (id: number) => parts.find((attribute) => attribute.id === id)?.data;
  const properties = readProperties(find(ATTRIBUTE.attachProperties) ?? Buffer.alloc(0), decode);
  const data = properties.get(PROPERTY.attachData);
  const content = data?.isObject
    ? data.bytes.subarray(INTERFACE_ID_BYTES)
    : (data?.bytes ?? find(ATTRIBUTE.attachData));
  if (content === undefined || open.left <= 0) return undefined;
  open.left--;
  const isMessage = properties.get(PROPERTY.attachMethod)?.number === EMBEDDED_MESSAGE && open.depth < MAX_DEPTH;
  const message = isMessage ? readMessage(content, { ...open, depth: open.depth + 1 }) : undefined;
  const title = find(ATTRIBUTE.attachTitle);
  const name =
    textOf(properties, PROPERTY.attachLongFilename) ??
    textOf(properties, PROPERTY.attachFilename) ??
    (title ? decode(title) : null) ??
    textOf(properties, PROPERTY.displayName);
  return {
    name: name || null,
    type: textOf(properties, PROPERTY.attachMimeTag),
    contentId: textOf(properties, PROPERTY.attachContentId),
    contentLocation: textOf(properties, PROPERTY.attachContentLocation),
    content,
    message: message ?? null,
  };
}

function textOf(properties: Properties, id: number): string | null {
  return properties.get(id)?.text || null;
}

// A time in units of 100 nanoseconds since 1601.
function readTime(bytes: Buffer | undefined): Date | null {
  if (!bytes || bytes.length < 8) return null;
  const date = new Date(Number(bytes.readBigUInt64LE(0) / 10_000n) - WINDOWS_EPOCH_MS);
  return Number.isNaN(date.getTime()) ? null : date;
}
