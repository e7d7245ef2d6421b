/** The egress guard: what may be connected to under which policy, by name and by literal, however it is disguised. */
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import { egress } from "../shared/egress.ts";
import { forbiddenReason } from "../shared/egress/addresses.ts";
import type { OwnServers } from "../shared/egress/own-servers.ts";

const signal = new AbortController().signal;
const named = (...list: string[]) => ({
  resolve: () => Promise.resolve(list.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }))),
});
const failing = (code: string) => ({ resolve: () => Promise.reject(Object.assign(new Error(code), { code })) });
const isProblem = (code: string, retry?: string) => (error: unknown) =>
  error instanceof Problem && error.code === code && (retry === undefined || error.retry === retry);

const at = (host: string, port = 443) => ({ host, port });

const ALWAYS_REFUSED = [
  "169.254.169.254",
  "169.254.0.1",
  "100.100.100.200",
  "168.63.129.16",
  "192.0.0.192",
  "0.0.0.0",
  "0.1.2.3",
  "224.0.0.1",
  "255.255.255.255",
  "::",
  "fe80::1",
  "fe80::1%eth0",
  "ff02::1",
  "fd00:ec2::254",
  "fd00:0ec2:0:0:0:0:0:0254",
  "fd20:ce::254",
  "fd00:ec2::23",
  "fd00:ec2:1::1",
  "64:ff9b:1:a9fe:a9:fe00:808:808",
  "64:ff9b:1:ffff:a9:fea9:fe00:1",
  "64:ff9b:1::8.8.8.8",
  "::ffff:169.254.169.254",
  "::ffff:a9fe:a9fe",
  "::ffff:0:169.254.169.254",
  "::169.254.169.254",
  "64:ff9b::169.254.169.254",
  "64:ff9b:1::a9fe:a9fe",
  "2002:a9fe:a9fe::1",
  "2001:0:a9fe:a9fe::1",
  "2001:0:5db8:d822:0:0:5601:5601",
  "fe80::5efe:169.254.169.254",
  "2001:db8::5efe:169.254.169.254",
];
const PRIVATE = [
  "127.0.0.1",
  "10.0.0.1",
  "172.16.5.5",
  "192.168.1.1",
  "100.64.0.1",
  "::1",
  "fd12:3456::1",
  "::ffff:127.0.0.1",
  "64:ff9b::10.0.0.1",
  "2002:7f00:1::1",
];
const PUBLIC = ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34", "64:ff9b::93.184.216.34"];

const ownServersOf = (backends: [string, number][], more: Partial<OwnServers> = {}) =>
  ({
    backends: backends.map(([host, port]) => ({ host, port, discovers: false })),
    host: "",
    ports: new Set([10000]),
    ...more,
  }) satisfies OwnServers;
const internalNames = (name: string) => {
  const address = { "redis.internal": "10.1.2.3", "alias.example": "10.1.2.3", "mail.internal": "10.1.2.4" }[name];
  return address === undefined ? Promise.reject(new Error("ENOTFOUND")) : Promise.resolve([{ address, family: 4 }]);
};

describe("The egress guard", () => {
  for (const address of ALWAYS_REFUSED) {
    test(`refuses ${address} whatever the policy`, () => {
      assert.ok(forbiddenReason(address, "allow"));
      assert.ok(forbiddenReason(address, "deny"));
    });
  }
  for (const address of PRIVATE) {
    test(`refuses ${address} only where private addresses are denied`, () => {
      assert.equal(forbiddenReason(address, "allow"), undefined);
      assert.ok(forbiddenReason(address, "deny"));
    });
  }
  for (const address of PUBLIC) {
    test(`lets ${address} pass`, () => {
      assert.equal(forbiddenReason(address, "allow"), undefined);
      assert.equal(forbiddenReason(address, "deny"), undefined);
    });
  }

  test("refuses a name that resolves to a forbidden address, for good", async () => {
    const guard = egress("allow", named("169.254.169.254"));
    await assert.rejects(guard.resolve(at("metadata.example"), signal), isProblem("egress", "never"));
  });

  test("keeps only the allowed ones of several addresses", async () => {
    const guard = egress("deny", named("::1", "10.0.0.1", "93.184.216.34"));
    assert.deepEqual(await guard.resolve(at("mixed.example"), signal), [{ address: "93.184.216.34", family: 4 }]);
  });

  test("judges the odd spellings of an address by what they resolve to", async () => {
    for (const spelling of ["127.1", "2130706433", "[::1]", "localhost"]) {
      await assert.rejects(egress("deny").resolve(at(spelling), signal), isProblem("egress", "never"), spelling);
    }
  });

  test("calls neither an unknown name nor a failing name server permanent", async () => {
    for (const code of ["ENOTFOUND", "EAI_AGAIN", "ESERVFAIL", "ETIMEOUT"]) {
      await assert.rejects(
        egress("deny", failing(code)).resolve(at("x.example"), signal),
        isProblem("dns", "later"),
        code,
      );
    }
  });

  test("waits for a silent name server no longer than its deadline", async () => {
    const guard = egress("deny", { resolve: () => new Promise(() => undefined), timeoutMs: 20 });
    await assert.rejects(guard.resolve(at("x.example"), signal), isProblem("timeout", "later"));
  });

  test("connects to the address it checked, going on past one that refuses", async () => {
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.end("hello");
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const bound = server.address();
    assert.ok(bound && typeof bound === "object");
    const guard = egress("allow", named("127.0.0.2", "127.0.0.1"));
    const socket = await guard.connect({ host: "two.example", port: bound.port, timeoutMs: 5000 }, signal);
    assert.equal(socket.remoteAddress, "127.0.0.1");
    socket.destroy();
    server.close();
  });

  test("judges an address of this network's translators by the IPv4 address inside it", () => {
    const places: [prefix: string, privateOne: string, publicOne: string][] = [
      ["2001:db8::/32", "2001:db8:a00:1::", "2001:db8:5db8:d822::"],
      ["2001:db8:100::/40", "2001:db8:10a:0:1::", "2001:db8:15d:b8d8:22::"],
      ["2001:db8:122::/48", "2001:db8:122:a00:0:100::", "2001:db8:122:5db8:d8:2200::"],
      ["2001:db8:122:300::/56", "2001:db8:122:30a:0:1::", "2001:db8:122:35d:b8:d822::"],
      ["2001:db8:122:344::/64", "2001:db8:122:344:a:0:100:0", "2001:db8:122:344:5d:b8d8:2200:0"],
      ["fd64:ff9b::/96", "fd64:ff9b::10.0.0.1", "fd64:ff9b::93.184.216.34"],
      ["64:ff9b:1:fffe::/96", "64:ff9b:1:fffe::10.0.0.1", "64:ff9b:1:fffe::93.184.216.34"],
    ];
    for (const [prefix, privateOne, publicOne] of places) {
      assert.match(forbiddenReason(privateOne, "deny", [prefix]) ?? "", /private address in an IPv6 disguise/, prefix);
      assert.equal(forbiddenReason(privateOne, "allow", [prefix]), undefined, prefix);
      assert.equal(forbiddenReason(publicOne, "deny", [prefix]), undefined, prefix);
    }
    assert.match(forbiddenReason("2001:db8:64::169.254.169.254", "allow", ["2001:db8:64::/96"]) ?? "", /linkLocal/);
  });

  test("lets only usual and added ports pass where private addresses are denied", async () => {
    const guard = egress("deny", { ...named("93.184.216.34"), ports: [8443] });
    for (const port of [25, 80, 110, 143, 443, 465, 587, 993, 995, 8443])
      await guard.resolve(at("x.example", port), signal);
    for (const port of [22, 6379, 8080, 11211])
      await assert.rejects(
        guard.resolve(at("x.example", port), signal),
        /port \d+, which is not allowed; EGRESS_PORTS/,
      );
    await egress("allow", named("93.184.216.34")).resolve(at("x.example", 8080), signal);
  });

  test("never connects to the service's own Redis, RabbitMQ and port, by any name or disguise", async () => {
    const guard = egress("allow", {
      resolve: internalNames,
      own: ownServersOf([
        ["redis.internal", 6390],
        ["127.0.0.1", 5672],
        ["gone.internal", 6391],
      ]),
    });
    const refused: [string, number][] = [
      ["redis.internal", 6390],
      ["alias.example", 6390],
      ["10.1.2.3", 6390],
      ["::ffff:10.1.2.3", 6390],
      ["[64:ff9b::a01:203]", 6390],
      ["10.1.2.3", 6379],
      ["10.1.2.3", 15672],
      ["127.0.0.1", 5672],
      ["127.0.0.2", 5672],
      ["::1", 5672],
      ["127.0.0.1", 10000],
      ["[::1]", 10000],
      ["::ffff:127.0.0.1", 10000],
    ];
    for (const [host, port] of refused)
      await assert.rejects(
        guard.resolve(at(host, port), signal),
        /is a server of this service on port/,
        `${host} ${port}`,
      );
    const passing: [string, number][] = [
      ["mail.internal", 6390],
      ["10.1.2.3", 143],
      ["127.0.0.1", 143],
      ["10.1.2.3", 10000],
    ];
    for (const [host, port] of passing) await guard.resolve(at(host, port), signal);
  });

  test("counts every private server on a backend's port as the service's, where the client learns servers by itself", async () => {
    const backends = [{ host: "redis.internal", port: 26379, discovers: true }];
    const guard = egress("allow", { resolve: internalNames, own: ownServersOf([], { backends }) });
    for (const port of [6379, 26379])
      await assert.rejects(guard.resolve(at("10.9.9.9", port), signal), /a server of this service/);
    await guard.resolve(at("10.9.9.9", 143), signal);
  });

  test("a service that listens on one address leaves its port on others free", async () => {
    const guard = egress("allow", { own: ownServersOf([], { host: "127.0.0.1" }) });
    await assert.rejects(guard.resolve(at("127.0.0.1", 10000), signal), /a server of this service/);
    await guard.resolve(at("127.0.0.2", 10000), signal);
  });

  test("says which address refused the connection", async () => {
    const attempt = egress("allow").connect({ host: "127.0.0.1", port: 1, timeoutMs: 5000 }, signal);
    await assert.rejects(
      attempt,
      (error) => isProblem("connect", "later")(error) && /127\.0\.0\.1 port 1/.test(String(error)),
    );
  });
});
