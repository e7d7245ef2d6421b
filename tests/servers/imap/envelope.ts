/** Writes ENVELOPE and BODYSTRUCTURE of a message (RFC 3501 section 7.4.2). */
import type { Part } from "./mime.ts";

const MOST_ADDRESSES = 1000;

/** The ENVELOPE of a message from its header fields. */
export function envelope(headers: Map<string, string[]>): string {
  const first = (name: string): string | undefined => headers.get(name)?.[0];
  const from = addressList(headers.get("from"));
  const others = ["sender", "reply-to"].map((name) => (headers.has(name) ? addressList(headers.get(name)) : from));
  const receivers = ["to", "cc", "bcc"].map((name) => addressList(headers.get(name)));
  const texts = [string(first("date")), string(first("subject"))];
  return `(${[...texts, from, ...others, ...receivers, string(first("in-reply-to")), string(first("message-id"))].join(" ")})`;
}

/** The structure of a message; with `extended` it is BODYSTRUCTURE, without it BODY. */
export function bodyStructure(part: Part, extended: boolean): string {
  if (part.children.length > 0 && part.type === "multipart") {
    const children = part.children.map((child) => bodyStructure(child, extended)).join("");
    const extension = extended ? ` ${parameterList(part.parameters)} ${disposition(part)} NIL NIL` : "";
    return `(${children} ${string(part.subtype)}${extension})`;
  }
  const header = (name: string): string | undefined => part.headers.get(name)?.[0];
  const type = part.type === "multipart" ? "application" : part.type;
  const fields = [
    string(type),
    string(part.subtype),
    parameterList(part.parameters),
    string(header("content-id")),
    string(header("content-description")),
    string(header("content-transfer-encoding") ?? "7bit"),
    String(part.end - part.bodyStart),
  ];
  const inner = part.children[0];
  if (inner) fields.push(envelope(inner.headers), bodyStructure(inner, extended), String(lineCount(part)));
  else if (type === "text") fields.push(String(lineCount(part)));
  if (extended) fields.push("NIL", disposition(part), "NIL", "NIL");
  return `(${fields.join(" ")})`;
}

/** A string as quoted, or as a literal when it cannot be quoted, or NIL. */
export function string(value: string | undefined): string {
  if (value === undefined) return "NIL";
  if (/^[ -~\t]*$/.test(value) && value.length < 1000) return `"${value.replaceAll(/["\\]/g, "\\$&")}"`;
  const clean = value.replaceAll("\0", "");
  return `{${clean.length}}\r\n${clean}`;
}

function disposition(part: Part): string {
  const value = part.headers.get("content-disposition")?.[0];
  const match = value === undefined ? null : /^\s*([\w-]+)(.*)$/s.exec(value);
  if (!match) return "NIL";
  const [, kind = "", rest = ""] = match;
  const parameters = new Map([...rest.matchAll(/;\s*([^\s=;]+)\s*=\s*(?:"([^"]*)"|([^\s;]*))/g)].map(pair));
  return `(${string(kind)} ${parameterList(parameters)})`;
}

function pair([, name = "", quoted, bare]: RegExpMatchArray): [string, string] {
  return [name.toLowerCase(), quoted ?? bare ?? ""];
}

function parameterList(parameters: Map<string, string>): string {
  if (parameters.size === 0) return "NIL";
  return `(${[...parameters].slice(0, 100).flat().map(string).join(" ")})`;
}

function lineCount(part: Part): number {
  let count = 0;
  for (let at = part.raw.indexOf(10, part.bodyStart); at >= 0 && at < part.end; at = part.raw.indexOf(10, at + 1))
    count++;
  return count;
}

function addressList(values: string[] | undefined): string {
  const addresses = (values ?? []).flatMap(splitAddresses).slice(0, MOST_ADDRESSES).map(address);
  const known = addresses.filter((one) => one !== undefined);
  return known.length > 0 ? `(${known.join("")})` : "NIL";
}

// Splits at commas that stand outside of quotes, comments and angle brackets. Groups are taken as their members.
function splitAddresses(value: string): string[] {
  const tokens = value.match(/"(?:[^"\\]|\\.)*"|\([^)]*\)|<[^>]*>|[,;]|[^",;<(]+|./gs) ?? [];
  const addresses: string[] = [""];
  for (const token of tokens) {
    if (token === "," || token === ";") addresses.push("");
    else addresses[addresses.length - 1] += token;
  }
  return addresses.map((one) => one.replace(/^[^"<@]*:/, "").trim()).filter((one) => one !== "");
}

function address(text: string): string | undefined {
  const [, display = "", inner] = /^(.*?)<([^>]*)>?[^<]*$/s.exec(text) ?? [];
  const bare = (inner ?? text.replaceAll(/\([^)]*\)/g, "")).trim();
  const at = bare.lastIndexOf("@");
  const name = display.trim().replaceAll(/^"|"$/g, "").replaceAll(/\\(.)/g, "$1");
  const [local, host] = at < 0 ? [bare, ""] : [bare.slice(0, at), bare.slice(at + 1)];
  if (local === "" && host === "" && name === "") return undefined;
  return `(${string(name === "" ? undefined : name)} NIL ${string(local)} ${string(host)})`;
}
