/** Where Redis is: REDIS_URL in its three forms (one server, Sentinel, Cluster), taken apart. */
import { Problem } from "../contract/problem.ts";
import { Secret } from "../contract/secret.ts";

export type RedisHost = { host: string; port: number };

/** `master` is Sentinel's name of the group. `shown` is the URL without its credentials. */
export type RedisPlace = {
  kind: "single" | "sentinel" | "cluster";
  tls: boolean;
  hosts: [RedisHost, ...RedisHost[]];
  user: string | undefined;
  password: Secret | undefined;
  master: string;
  db: number;
  shown: string;
};

const FORM = /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(?:([^@/]*)@)?([^@/?#]+)(?:\/([^?#]*))?$/;
const HOST = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+)(?::(\d{1,5}))?$/;
const PORTS = { single: 6379, sentinel: 26379, cluster: 6379 };

/**
 * Reads `redis://`, `redis+sentinel://host,host/master/db` or `redis+cluster://host,host`; `rediss` in place of `redis` means TLS. User and
 * password come before an `@`, percent-encoded. Throws `config` naming the form, never the URL: it may hold a password.
 */
export function redisPlace(url: string): RedisPlace {
  const [matched, s, form, login, hosts = "", path = ""] = FORM.exec(url.trim()) ?? [];
  if (matched === undefined) throw unreadable("it must look like redis://user:password@host:6379/0");
  const kind = form === "sentinel" || form === "cluster" ? form : "single";
  const [first, ...rest] = hosts.split(",").map((host) => hostOf(host, PORTS[kind]));
  if (first === undefined) throw unreadable("it names no host");
  if (kind === "single" && rest.length > 0)
    throw unreadable("several hosts need redis+sentinel:// or redis+cluster://");
  const [master, db] = kind === "sentinel" ? path.split("/") : [undefined, path];
  if (kind === "sentinel" && !master)
    throw unreadable("after the hosts comes the name of the master: redis+sentinel://a,b/mymaster");
  if (!/^\d*$/.test(db ?? "") || (kind === "cluster" && Number(db) > 0))
    throw unreadable("the database must be a number, and 0 in a cluster");
  const [, user, password] = /^([^:]*)(?::(.*))?$/.exec(login ?? "") ?? [];
  return {
    kind,
    tls: s === "s",
    hosts: [first, ...rest],
    user: user ? decodeURIComponent(user) : undefined,
    password: password ? new Secret(decodeURIComponent(password)) : undefined,
    master: master ?? "",
    db: Number(db ?? 0),
    shown: `redis${s}${form ? `+${form}` : ""}://${hosts}${path ? `/${path}` : ""}`,
  };
}

function hostOf(text: string, usual: number): RedisHost {
  const [, host, port] = HOST.exec(text.trim()) ?? [];
  if (host === undefined) throw unreadable("a host must be a name or an address, with a port if need be");
  return { host: host.replace(/^\[|\]$/g, ""), port: port === undefined ? usual : Number(port) };
}

function unreadable(why: string): Problem {
  return new Problem("config", `REDIS_URL cannot be read: ${why}`, { retry: "never" });
}
