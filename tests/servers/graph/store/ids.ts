/** Ids as Graph makes them: URL-safe base64 that ends with "=", case-sensitive, of one form for each kind of id. */
import { randomBytes } from "node:crypto";

const STARTS = {
  /** Of an item, the same as long as it is in its mailbox. */
  immutable: { bytes: [0x00, 0x09, 0x00, 0x2e, 0x00], length: 38 },
  /** Of an item, another one after each move. */
  mutable: { bytes: [0x00, 0x03, 0x24, 0x00, 0x60], length: 113 },
  folder: { bytes: [0x01, 0x03, 0x24, 0x00, 0x30], length: 80 },
  attachment: { bytes: [0x00, 0x03, 0x24, 0x00, 0x61], length: 140 },
} as const;

/** A new id; the mailbox's GUID is in it. */
export function newId(kind: keyof typeof STARTS, guid: string): string {
  const { bytes, length } = STARTS[kind];
  const start = Buffer.concat([Buffer.from(bytes), Buffer.from(guid.replaceAll("-", ""), "hex")]);
  const id = Buffer.concat([start, randomBytes(length - start.length)]).toString("base64");
  return toRestId(id);
}

/** What EWS calls an item, as Graph writes it. */
export function toRestId(ewsId: string): string {
  return ewsId.replaceAll("/", "-").replaceAll("+", "_");
}

/** What Graph calls an item or a folder, as EWS writes it. */
export function toEwsId(restId: string): string {
  return restId.replaceAll("-", "/").replaceAll("_", "+");
}

/** Whether it can be an id of an item or folder at all. */
export function isWellFormed(id: string): boolean {
  return /^(AAkALg[\w-]{45}=|(AAMk|AQMk)[\w-]{30,}=*)$/.test(id);
}
