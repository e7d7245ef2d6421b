/** Schemas for the values of settings. Each parses the text of an environment variable. */
import ipaddr from "ipaddr.js";
import * as v from "valibot";
import { Secret } from "./contract/secret.ts";
import { isTranslationPrefix } from "./egress/addresses.ts";

/** Words separated by commas or white space. */
export const wordList = v.pipe(
  v.string(),
  v.transform((s) => s.split(/[\s,]+/).filter(Boolean)),
);
/** Secrets separated by commas or white space. */
export const secretList = v.pipe(
  wordList,
  v.transform((list) => list.map((word) => new Secret(word))),
);
/** A whole number in this range. */
export const integer = (min: number, max: number) =>
  v.pipe(v.string(), v.regex(/^\d+$/, "must be a whole number"), v.transform(Number), v.minValue(min), v.maxValue(max));
/** TCP ports. */
export const portList = v.pipe(
  wordList,
  v.check(
    (list) => list.every((word) => /^\d{1,5}$/.test(word) && Number(word) >= 1 && Number(word) <= 65535),
    "must be ports from 1 to 65535, separated by commas",
  ),
  v.transform((list) => list.map(Number)),
);
/** Addresses of name servers, with or without a port. */
export const nameServerList = v.pipe(
  wordList,
  v.check(
    (list) =>
      list.every((one) =>
        ipaddr.isValid(one.replace(/^\[(.*)\](:\d{1,5})?$/, "$1").replace(/^([\d.]+):\d{1,5}$/, "$1")),
      ),
    "must be addresses, such as 10.0.0.53, 10.0.0.53:5353 or [2001:db8::53]:5353",
  ),
);
/** IPv6 prefixes as CIDR. */
export const nat64Prefixes = v.pipe(
  wordList,
  v.check(
    (list) => list.every(isTranslationPrefix),
    "must be IPv6 prefixes of 32, 40, 48, 56, 64 or 96 bits (RFC 6052), such as 2001:db8:64::/96",
  ),
);
/** A number in this range. It may have a fraction. */
export const decimal = (min: number, max: number) =>
  v.pipe(
    v.string(),
    v.regex(/^\d+(\.\d+)?$/, "must be a number"),
    v.transform(Number),
    v.minValue(min),
    v.maxValue(max),
  );
/** Networks as CIDR, or single addresses. */
export const networks = v.pipe(
  wordList,
  v.transform((list) =>
    list.map((one) => (ipaddr.isValid(one) ? `${one}/${ipaddr.parse(one).kind() === "ipv6" ? 128 : 32}` : one)),
  ),
  v.check(
    (list) => list.every((one) => ipaddr.isValidCIDR(one)),
    "must name addresses or networks, such as 10.0.0.5 or 10.0.0.0/8",
  ),
);
/** URLs of http or https. */
export const httpUrls = v.pipe(
  wordList,
  v.check(
    (list) => list.every((url) => /^https?:\/\//i.test(url) && URL.canParse(url)),
    "must be URLs, such as https://mail.example.com",
  ),
);
/** A path prefix without the last slash. */
export const basePath = v.pipe(
  v.string(),
  v.regex(/^(\/[A-Za-z0-9._~-]+)*\/?$/, "must look like /mail"),
  v.transform((s) => s.replace(/\/$/, "")),
);
const KEY_PATTERN = /^[A-Za-z0-9_-]{1,32}:[A-Za-z0-9+/]{43}=$/;
const keyIdOf = (pair: string) => pair.slice(0, pair.indexOf(":"));
/** In one spelling, because the last character of base64 has two bits that do not count. */
const keyTextOf = (pair: string) => Buffer.from(pair.slice(pair.indexOf(":") + 1), "base64").toString("base64");
const isZeroKey = (pair: string) => /^A+=$/.test(keyTextOf(pair));
/** Keys as `id:base64`. */
export const encryptionKeys = v.pipe(
  wordList,
  v.check(
    (list) => list.every((k) => KEY_PATTERN.test(k)),
    "must be id:key pairs, each key 32 bytes in base64 (`bun run keys` makes one)",
  ),
  v.check(
    (list) => new Set(list.map(keyIdOf)).size === list.length,
    "must not have two keys with the same id: what one of them encrypted could not be decrypted",
  ),
  v.check(
    (list) => new Set(list.map(keyTextOf)).size === list.length,
    "must not have one key under two ids: removing one of them would change nothing",
  ),
  v.check(
    ([first]) => first === undefined || !isZeroKey(first),
    "must not begin with a key of zeros, because everybody knows it (`bun run keys` makes a new one)",
  ),
  v.transform((list) => list.map((k) => ({ id: keyIdOf(k), key: new Secret(k.slice(k.indexOf(":") + 1)) }))),
);

/** A name that RabbitMQ accepts for queues and exchanges. */
export const amqpName = v.pipe(v.string(), v.regex(/^[A-Za-z0-9:._-]{1,128}$/, "may use A-Z a-z 0-9 : . _ - only"));
/** A secret, or undefined for an empty text. */
export const optionalSecret = (text: string) => (text ? new Secret(text) : undefined);

/** A secret of Standard Webhooks, or an empty text for none. */
export const webhookSecret = v.pipe(
  v.string(),
  v.check(
    (text) => text === "" || /^whsec_[A-Za-z0-9+/]{32,86}={0,2}$/.test(text),
    "must be whsec_ and 24 to 64 bytes in base64",
  ),
  v.transform(optionalSecret),
);

/** A name for EHLO: a host name, or an address in square brackets. */
export const ehloName = v.pipe(
  v.string(),
  v.regex(/^(|[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.IPv]+\])$/, "must be a host name, or an address in square brackets"),
);

/** One condition that a caller of the CRM's operations must meet. */
export type CrmAccess =
  | { kind: "closed" | "open" }
  | { kind: "path"; segment: Secret }
  | { kind: "basic"; user: string; password: Secret }
  | { kind: "networks"; cidrs: string[] };

const ACCESS_PATTERN =
  /^(?:(closed|open)|path:([A-Za-z0-9._~-]{8,})|basic:([^\s:]+):(\S{8,})|networks:([0-9A-Fa-f.:/]+(?:,[0-9A-Fa-f.:/]+)*))$/;
/** The conditions of CRM_ACCESS. */
export const crmAccess = v.pipe(
  v.string(),
  v.transform((s) => s.split(/\s+/).filter(Boolean)),
  v.check(
    (list) =>
      list.every((word) => ACCESS_PATTERN.test(word)) &&
      (list.length < 2 || !list.some((w) => /^(closed|open)$/.test(w))),
    "must be closed, open, or any of path:<segment>, basic:<user>:<password> and networks:<cidr,...>, separated by spaces; segment and password with at least 8 characters",
  ),
  v.transform((list) => list.map(parseAccess)),
  v.check(
    (list) => list.every((one) => one.kind !== "networks" || one.cidrs.every((cidr) => ipaddr.isValidCIDR(cidr))),
    "must name networks as CIDR, such as 10.0.0.0/8",
  ),
);

function parseAccess(word: string): CrmAccess {
  const [, plain, segment, user, password, cidrs] = ACCESS_PATTERN.exec(word) ?? [];
  if (segment) return { kind: "path", segment: new Secret(segment) };
  if (user && password) return { kind: "basic", user, password: new Secret(password) };
  if (cidrs) return { kind: "networks", cidrs: cidrs.split(",") };
  return { kind: plain === "open" ? "open" : "closed" };
}
