/** The versions of the EWS schema that the service uses, and those of Exchange. */

/** Versions of the schema, the preferred one first. A server that does not know a version says so. */
export const VERSIONS = ["Exchange2013", "Exchange2010_SP2"] as const;

export type Version = (typeof VERSIONS)[number];

/** Products by the major and minor number of their versions. */
const PRODUCTS: Record<string, string> = {
  "14.0": "Exchange 2010",
  "14.1": "Exchange 2010 SP1",
  "14.2": "Exchange 2010 SP2",
  "14.3": "Exchange 2010 SP3",
  "15.0": "Exchange 2013",
  "15.1": "Exchange 2016",
  "15.2": "Exchange 2019 or Subscription Edition",
  "15.20": "Exchange Online",
};

/** The product with its number: major, minor, build. */
export function describeVersion(numbers: readonly (string | number)[]): string {
  return `${PRODUCTS[numbers.slice(0, 2).join(".")] ?? "Exchange"} (${numbers.join(".")})`;
}

const ATTRIBUTES = ["MajorVersion", "MinorVersion", "MajorBuildNumber", "MinorBuildNumber"];

/** The server's version in the head of an answer; undefined if it does not say it. */
export function findServerVersion(answer: string): string | undefined {
  const [tag = ""] = /<(?:\w{1,50}:)?ServerVersionInfo\b[^<>]{0,500}>/.exec(answer) ?? [];
  const numbers = ATTRIBUTES.flatMap((name) => new RegExp(`\\b${name}="(\\d{1,5})"`).exec(tag)?.[1] ?? []);
  return numbers.length === ATTRIBUTES.length ? describeVersion(numbers) : undefined;
}
