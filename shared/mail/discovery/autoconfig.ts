/**
 * Mozilla's autoconfig: a file in which a domain names its mail servers
 * (https://www.bucksch.org/1/projects/thunderbird/autoconfiguration/config-file-format.html). The file is a stranger's, so
 * its size, its elements and its words are bounded, and no redirect is followed.
 */
import * as v from "valibot";
import { Host, Port } from "../../contract/fields.ts";
import type { Proposal } from "./proposal.ts";
import { Problem } from "../../contract/problem.ts";
import { findElement, findElements, readElements, type XmlElement } from "../ews/soap/elements.ts";
import type { EwsHttp } from "../ews/transport/http.ts";
import { readText } from "../http/response.ts";

/** The files of providers have a few kilobytes. */
const MAX_FILE_BYTES = 64 * 1024;
const MAX_SERVERS = 20;
const TLS: ReadonlyMap<string, "implicit" | "starttls"> = new Map([
  ["SSL", "implicit"],
  ["STARTTLS", "starttls"],
]);

/** Where a domain may have its file. `port` is 443 but for tests. */
export function autoconfigUrls(domain: string, port: number): string[] {
  const at = port === 443 ? "" : `:${port}`;
  return [
    `https://autoconfig.${domain}${at}/mail/config-v1.1.xml`,
    `https://${domain}${at}/.well-known/autoconfig/mail/config-v1.1.xml`,
  ];
}

/** The file at this URL. Throws a Problem if there is none, or it is no such file or too large. */
export async function fetchAutoconfig(http: EwsHttp, url: string, ms: number, signal: AbortSignal): Promise<Buffer> {
  const order = { url, method: "GET", body: "", what: "Autoconfig", answerMs: ms, maxBytes: MAX_FILE_BYTES } as const;
  const response = await http.post(order, signal);
  if (response.status === 200) return Buffer.from(await readText(response.chunks, MAX_FILE_BYTES));
  await response.chunks.return?.();
  throw new Problem("not_found", `HTTP ${response.status}`);
}

/** What the file proposes for this address. Undefined if it names no server with TLS. Throws `protocol` for anything else. */
export async function readAutoconfig(file: Buffer, address: string, url: string): Promise<Proposal | undefined> {
  const provider = await findProvider(file);
  const incoming = findElements(provider, "incomingServer").slice(0, MAX_SERVERS);
  const receive = firstOf(incoming, "imap", "993") ?? firstOf(incoming, "pop3", "995");
  if (!receive) return undefined;
  const [send] = findElements(provider, "outgoingServer")
    .slice(0, MAX_SERVERS)
    .flatMap((element) => toServer(element, "465") ?? []);
  const methods = findElements(receive.element, "authentication").map(({ text }) => text.trim());
  const hasPassword = methods.length === 0 || methods.some((method) => method.startsWith("password-"));
  return {
    source: "autoconfig",
    origin: url,
    provider: null,
    receive: { protocol: receive.protocol, ...receive.server },
    send: send ?? null,
    user: userOf(receive.element, address),
    logins: [
      ...(methods.includes("OAuth2") ? (["oauth2"] as const) : []),
      ...(hasPassword ? (["password"] as const) : []),
    ],
    notes: [],
  };
}

async function findProvider(file: Buffer): Promise<XmlElement> {
  const [config] = await Array.fromAsync(readElements(asChunks(file), { names: ["clientConfig"] }));
  const provider = config && findElement(config, "emailProvider");
  if (!provider) throw new Problem("protocol", "It is no autoconfig file");
  return provider;
}

async function* asChunks(file: Buffer): AsyncGenerator<Buffer, void, undefined> {
  yield file;
}

/** The first server of this type with TLS; a type lists the provider's favourite first. */
function firstOf<P extends "imap" | "pop3">(elements: XmlElement[], protocol: P, port: string) {
  for (const element of elements) {
    const server = element.attributes["type"] === protocol ? toServer(element, port) : undefined;
    if (server) return { protocol, server, element };
  }
  return undefined;
}

const Named = v.object({ host: Host, port: Port });

function toServer(element: XmlElement, usualPort: string) {
  const tls = TLS.get(textOf(element, "socketType") ?? "");
  const host = textOf(element, "hostname");
  const named = v.safeParse(Named, { host, port: Number(textOf(element, "port") ?? usualPort) });
  return tls && named.success ? { ...named.output, tls } : undefined;
}

function textOf(element: XmlElement, name: string): string | undefined {
  return findElement(element, name)?.text.trim();
}

const MAX_USER = 320;

function userOf(element: XmlElement, address: string): string {
  const at = address.lastIndexOf("@");
  const user = (textOf(element, "username") ?? "")
    .replaceAll("%EMAILADDRESS%", address)
    .replaceAll("%EMAILLOCALPART%", address.slice(0, at))
    .replaceAll("%EMAILDOMAIN%", address.slice(at + 1));
  return user === "" || user.length > MAX_USER || /[\r\n\0%]/.test(user) ? address : user;
}
