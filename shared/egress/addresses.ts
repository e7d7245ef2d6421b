/** What an address is: public or not, a metadata service, or an IPv4 address in an IPv6 disguise. */
import ipaddr from "ipaddr.js";

export type EgressPolicy = "allow" | "deny";

/** Addresses of cloud metadata and fabric services. They are refused under every policy. */
const METADATA = [
  "100.100.100.200/32", // Alibaba Cloud
  "168.63.129.16/32", // Azure
  "192.0.0.192/32", // Oracle Cloud
  "fd00:ec2::/32", // AWS over IPv6: metadata, DNS, time, credentials
  "fd20:ce::254/128", // Google Cloud over IPv6
].map((range) => ipaddr.parseCIDR(range));
/** Each network puts IPv4 addresses into this range in a way of its own (RFC 8215), so nobody else can read them. */
const LOCAL_TRANSLATION = ipaddr.parseCIDR("64:ff9b:1::/48");
/** IANA ranges (with their names in ipaddr.js) that are refused under every policy. */
const FORBIDDEN_RANGES = new Set(["unspecified", "linkLocal", "multicast", "broadcast"]);
/** IPv6 ranges that lead to an IPv4 address. The IPv4 address inside them decides. */
const EMBEDDING_RANGES = new Set(["ipv4Mapped", "rfc6145", "rfc6052", "6to4", "teredo"]);

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/**
 * Why the policy forbids an address; undefined when it is allowed. `nat64` are prefixes of translators of this network
 * (RFC 6052): the IPv4 address inside them decides.
 */
export function forbiddenReason(text: string, policy: EgressPolicy, nat64: readonly string[] = []): string | undefined {
  const [bare = ""] = text.split("%");
  if (!ipaddr.isValid(bare)) return "not an address";
  const address = ipaddr.parse(bare);
  if (METADATA.some((range) => isIn(address, range))) return "a cloud metadata address";
  const range = address.range();
  const translated = translatedIpv4(address, nat64);
  if (translated === undefined && isIn(address, LOCAL_TRANSLATION))
    return "an address of a translator (NAT64_PREFIXES names those of this network)";
  const embedded = translated === undefined ? embeddedIpv4(address, range) : [translated];
  for (const inner of embedded) {
    const reason = forbiddenReason(inner, policy);
    if (reason) return `${reason} in an IPv6 disguise`;
  }
  if (translated !== undefined) return undefined;
  // On Linux "this network" (0.0.0.0/8) reaches the machine itself; ipaddr.js calls it unspecified.
  if (FORBIDDEN_RANGES.has(range)) return `a ${range} address`;
  if (policy === "allow" || range === "unicast") return undefined;
  if (embedded.length > 0 && EMBEDDING_RANGES.has(range)) return undefined;
  return `a ${range} address`;
}

/** The address in one spelling, and the IPv4 addresses inside it. Empty for what is no address. */
export function meaningsOf(text: string, nat64: readonly string[] = []): string[] {
  const [bare = ""] = text.split("%");
  if (!ipaddr.isValid(bare)) return [];
  const address = ipaddr.parse(bare);
  const translated = translatedIpv4(address, nat64);
  return [
    address.toNormalizedString(),
    ...embeddedIpv4(address, address.range()),
    ...(translated === undefined ? [] : [translated]),
  ];
}

function isIn(address: Address, [range, bits]: [Address, number]): boolean {
  return address.kind() === range.kind() && address.match(range, bits);
}

/** Where the four bytes are for each length of a prefix (RFC 6052 section 2.2). */
const TRANSLATED_BYTES: ReadonlyMap<number, readonly number[]> = new Map([
  [32, [4, 5, 6, 7]],
  [40, [5, 6, 7, 9]],
  [48, [6, 7, 9, 10]],
  [56, [7, 9, 10, 11]],
  [64, [9, 10, 11, 12]],
  [96, [12, 13, 14, 15]],
]);

/** True for an IPv6 prefix of a length that translators use. */
export function isTranslationPrefix(cidr: string): boolean {
  return ipaddr.IPv6.isValidCIDR(cidr) && TRANSLATED_BYTES.has(ipaddr.parseCIDR(cidr)[1]);
}

function translatedIpv4(address: Address, nat64: readonly string[]): string | undefined {
  const found = nat64.map((cidr) => ipaddr.parseCIDR(cidr)).find((range) => isIn(address, range));
  const bytes = address.toByteArray();
  return (
    found &&
    TRANSLATED_BYTES.get(found[1])
      ?.map((at) => bytes[at])
      .join(".")
  );
}

/**
 * The IPv4 addresses inside an IPv6 address: mapped and translated (RFC 4291, 6052, 7915), 6to4 (RFC 3056), Teredo (RFC
 * 4380, its server and its inverted client), the old compatible form, and ISATAP (RFC 5214).
 */
function embeddedIpv4(address: Address, range: string): string[] {
  if (!(address instanceof ipaddr.IPv6)) return [];
  const [p0 = 0, p1 = 0, p2 = 0, p3 = 0, p4 = 0, p5 = 0, p6 = 0, p7 = 0] = address.parts;
  const lastQuad = toIpv4(p6, p7);
  if (range === "ipv4Mapped" || range === "rfc6145" || range === "rfc6052") return [lastQuad];
  if (range === "6to4") return [toIpv4(p1, p2)];
  if (range === "teredo") return [toIpv4(p2, p3), toIpv4(p6 ^ 0xffff, p7 ^ 0xffff)];
  if (p0 === 0x64 && p1 === 0xff9b) return [lastQuad];
  if (p4 === 0 || p4 === 0x200) {
    if (p5 === 0x5efe) return [lastQuad];
  }
  const compatible = [p0, p1, p2, p3, p4, p5].every((p) => p === 0) && (p6 !== 0 || p7 > 1);
  return compatible ? [lastQuad] : [];
}

function toIpv4(high: number, low: number): string {
  return [high >> 8, high & 255, low >> 8, low & 255].join(".");
}
