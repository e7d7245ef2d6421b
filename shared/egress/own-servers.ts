/** The servers that the service itself uses and is: its Redis, its RabbitMQ and its own port. No client may reach them. */
import { networkInterfaces } from "node:os";
import { isIP } from "node:net";
import { forbiddenReason, meaningsOf } from "./addresses.ts";

export type OwnServers = {
  /** Redis and RabbitMQ as they are configured. `discovers`: the client learns further servers by itself. */
  backends: readonly { host: string; port: number; discovers: boolean }[];
  /** The address that this process listens on; empty means all. */
  host: string;
  /** The ports that this process listens on, as far as they are known now. */
  ports: ReadonlySet<number>;
};

export type Target = { address: string; port: number };
export type IsOwnServer = (target: Target, signal: AbortSignal) => Promise<boolean>;

/** Ports of Redis (also its cluster bus and Sentinel) and RabbitMQ (also epmd, Erlang, management and metrics). */
export const BACKEND_PORTS = [6379, 16379, 26379, 4369, 5671, 5672, 15671, 15672, 15692, 25672];
const CACHE_MS = 10_000;

export type LookUp = (name: string, signal: AbortSignal) => Promise<{ address: string; family: number }[]>;

/**
 * Tells whether an address and a port are a server of the service itself. The names of backends are resolved only when
 * the port may be theirs. A backend whose name has no address now cannot be reached by a client either.
 */
export function ownServers(own: OwnServers, lookUp: LookUp, nat64: readonly string[]): IsOwnServer {
  const backendPorts = new Set([...BACKEND_PORTS, ...own.backends.map(({ port }) => port)]);
  const discovers = own.backends.some((one) => one.discovers);
  const spellings = (address: string) => meaningsOf(address, nat64);
  let cache: { until: number; addresses: Promise<Set<string>> } | undefined;

  async function resolveBackends(signal: AbortSignal): Promise<Set<string>> {
    const lists = await Promise.all(
      own.backends.map(({ host }) =>
        isIP(host) ? [{ address: host, family: isIP(host) }] : lookUp(host, signal).catch(() => []),
      ),
    );
    const addresses = new Set(lists.flat().flatMap(({ address }) => spellings(address)));
    // A backend on this machine may listen on all of its addresses.
    return [...addresses].some(isLocal) ? addresses.add(THIS_MACHINE) : addresses;
  }

  return async ({ address, port }, signal) => {
    const meanings = spellings(address);
    if (own.ports.has(port) && meanings.some((one) => isListening(own.host, one))) return true;
    if (own.backends.length === 0 || !backendPorts.has(port)) return false;
    // The members of a cluster are not known here. They are in the network of the service.
    if (discovers && forbiddenReason(address, "deny", nat64) !== undefined) return true;
    if (!cache || cache.until < performance.now())
      cache = { until: performance.now() + CACHE_MS, addresses: resolveBackends(signal) };
    const backends = await cache.addresses;
    return meanings.some((one) => backends.has(isLocal(one) ? THIS_MACHINE : one) || backends.has(one));
  };
}

const THIS_MACHINE = "this machine";

function isLocal(address: string): boolean {
  if (/^127\.|^(0:){7}1$/.test(address)) return true;
  const interfaces = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return interfaces.some((one) => meaningsOf(one.address).includes(address));
}

/** True if a process that listens on `host` (empty: on all addresses) answers at this address. */
function isListening(host: string, address: string): boolean {
  const all = meaningsOf(host || "0.0.0.0").some((one) => /^0\.0\.0\.0$|^(0:){7}0$/.test(one));
  return all
    ? isLocal(address)
    : host === "localhost"
      ? /^127\.|^(0:){7}1$/.test(address)
      : meaningsOf(host).includes(address);
}
