/** DNS records that name mail servers: SRV (RFC 6186, RFC 8314) and MX. */
import type { MxRecord, SrvRecord } from "node:dns";
import { Resolver } from "node:dns/promises";
import * as v from "valibot";
import { Host } from "../../contract/fields.ts";
import type { Proposal } from "./proposal.ts";

/** Asks name servers for records. Rejects with the code ENOTFOUND or ENODATA if there are none. */
export type Records = {
  resolveSrv(name: string): Promise<SrvRecord[]>;
  resolveMx(name: string): Promise<MxRecord[]>;
};

/** Asks these name servers (address, or address:port), or those of the system if there are none. */
export function nameServers(servers: readonly string[]): Records {
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  if (servers.length > 0) resolver.setServers(servers);
  return resolver;
}

type Service = { name: string; tls: "implicit" | "starttls" };
const RECEIVING: readonly (Service & { protocol: "imap" | "pop3" })[] = [
  { name: "_imaps._tcp", protocol: "imap", tls: "implicit" },
  { name: "_imap._tcp", protocol: "imap", tls: "starttls" },
  { name: "_pop3s._tcp", protocol: "pop3", tls: "implicit" },
];
const SENDING: readonly Service[] = [
  { name: "_submissions._tcp", tls: "implicit" },
  { name: "_submission._tcp", tls: "starttls" },
];

/** What the SRV records of the domain propose. Undefined if they name no server for receiving. */
export async function findBySrv(records: Records, domain: string, address: string): Promise<Proposal | undefined> {
  const [receiving, sending] = await Promise.all([
    Promise.all(RECEIVING.map((service) => firstServer(records, service, domain))),
    Promise.all(SENDING.map((service) => firstServer(records, service, domain))),
  ]);
  const n = receiving.findIndex((one) => one !== undefined);
  const [service, server] = [RECEIVING[n], receiving[n]];
  if (!service || !server) return undefined;
  return {
    source: "srv",
    origin: `the SRV record ${service.name}.${domain}`,
    provider: null,
    receive: { protocol: service.protocol, ...server },
    send: sending.find((one) => one !== undefined) ?? null,
    user: address,
    logins: ["password"],
    notes: [],
  };
}

/** The server with the lowest priority. A target of a single dot says that the domain has no such service. */
async function firstServer(records: Records, { name, tls }: Service, domain: string) {
  const found = await orNone(records.resolveSrv(`${name}.${domain}`));
  const [first] = found.toSorted((a, b) => a.priority - b.priority || b.weight - a.weight);
  if (!first || first.port === 0 || !v.is(Host, first.name)) return undefined;
  return { host: first.name.replace(/\.$/, ""), port: first.port, tls };
}

/** The names of the mail exchangers, the preferred one first. */
export async function listExchangers(records: Records, domain: string): Promise<string[]> {
  const found = await orNone(records.resolveMx(domain));
  return found.toSorted((a, b) => a.priority - b.priority).map(({ exchange }) => exchange);
}

/** No records, or no such name, is an answer. */
async function orNone<T>(asked: Promise<T[]>): Promise<T[]> {
  try {
    return await asked;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOTFOUND" || code === "ENODATA") return [];
    throw error;
  }
}
