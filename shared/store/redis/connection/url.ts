/** Parses REDIS_URL in its three forms: one server, Sentinel, Cluster. */
import { Problem } from "../../../contract/problem.ts";
import { Secret } from "../../../contract/secret.ts";
import { bracketIpv6 } from "../../../contract/url.ts";

export type RedisHost = { host: string; port: number };

/** `master` is Sentinel's name of the group. `displayUrl` is the URL without its credentials. */
export type RedisUrl = {
  kind: "single" | "sentinel" | "cluster";
  tls: boolean;
  hosts: [RedisHost, ...RedisHost[]];
  user: string | undefined;
  password: Secret | undefined;
  master: string;
  db: number;
  displayUrl: string;
};

const URL_PATTERN = /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(?:([^@/]*)@)?([^@/?#]+)(?:\/([^?#]*))?$/;
const HOST_PATTERN = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+)(?::(\d{1,5}))?$/;
const DEFAULT_PORTS = { single: 6379, sentinel: 26379, cluster: 6379 };

/**
 * Reads `redis://`, `redis+sentinel://host,host/master/db` or `redis+cluster://host,host`; `rediss` in place of `redis`
 * means TLS. User and password come before an `@`, percent-encoded. Throws `config` naming the form, but never the URL,
 * because it may hold a password.
 */
export function parseRedisUrl(url: string): RedisUrl {
  const [match, s, mode, login, hosts = "", path = ""] = URL_PATTERN.exec(url.trim()) ?? [];
  if (match === undefined) throw toUrlProblem("it must look like redis://user:password@host:6379/0");
  const kind = mode === "sentinel" || mode === "cluster" ? mode : "single";
  const [first, ...rest] = hosts.split(",").map((host) => parseHost(host, DEFAULT_PORTS[kind]));
  if (first === undefined) throw toUrlProblem("it names no host");
  if (kind === "single" && rest.length > 0)
    throw toUrlProblem("several hosts need redis+sentinel:// or redis+cluster://");
  const [master, db] = kind === "sentinel" ? path.split("/") : [undefined, path];
  if (kind === "sentinel" && !master)
    throw toUrlProblem("the name of the master must follow the hosts: redis+sentinel://a,b/mymaster");
  if (!/^\d*$/.test(db ?? "") || (kind === "cluster" && Number(db) > 0))
    throw toUrlProblem("the database must be a number, and 0 in a cluster");
  const [, user, password] = /^([^:]*)(?::(.*))?$/.exec(login ?? "") ?? [];
  return {
    kind,
    tls: s === "s",
    hosts: [first, ...rest],
    user: user ? decodeURIComponent(user) : undefined,
    password: password ? new Secret(decodeURIComponent(password)) : undefined,
    master: master ?? "",
    db: Number(db ?? 0),
    displayUrl: `redis${s}${mode ? `+${mode}` : ""}://${hosts}${path ? `/${path}` : ""}`,
  };
}

function parseHost(text: string, defaultPort: number): RedisHost {
  const [, host, port] = HOST_PATTERN.exec(bracketIpv6(text.trim())) ?? [];
  if (host === undefined) throw toUrlProblem("a host must be a name or an address, and may have a port");
  return { host: host.replace(/^\[|\]$/g, ""), port: port === undefined ? defaultPort : Number(port) };
}

function toUrlProblem(why: string): Problem {
  return new Problem("config", `REDIS_URL cannot be read: ${why}`, { retry: "never" });
}
