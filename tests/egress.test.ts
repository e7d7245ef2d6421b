/** The egress guard: what may be connected to under which policy, by name and by literal, however it is disguised. */
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import { egress, refusal } from "../shared/egress.ts";

const signal = new AbortController().signal;
const named = (...list: string[]) => ({
  resolve: () => Promise.resolve(list.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }))),
});
const failing = (code: string) => ({ resolve: () => Promise.reject(Object.assign(new Error(code), { code })) });
const isProblem = (code: string, retry?: string) => (error: unknown) =>
  error instanceof Problem && error.code === code && (retry === undefined || error.retry === retry);

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

describe("The egress guard", () => {
  for (const address of ALWAYS_REFUSED) {
    test(`refuses ${address} whatever the policy`, () => {
      assert.ok(refusal(address, "allow"));
      assert.ok(refusal(address, "deny"));
    });
  }
  for (const address of PRIVATE) {
    test(`refuses ${address} only where private addresses are denied`, () => {
      assert.equal(refusal(address, "allow"), undefined);
      assert.ok(refusal(address, "deny"));
    });
  }
  for (const address of PUBLIC) {
    test(`lets ${address} pass`, () => {
      assert.equal(refusal(address, "allow"), undefined);
      assert.equal(refusal(address, "deny"), undefined);
    });
  }

  test("refuses a name that resolves to a forbidden address, for good", async () => {
    const guard = egress("allow", named("169.254.169.254"));
    await assert.rejects(guard.addresses("metadata.example", signal), isProblem("egress", "never"));
  });

  test("keeps only the allowed ones of several addresses", async () => {
    const guard = egress("deny", named("::1", "10.0.0.1", "93.184.216.34"));
    assert.deepEqual(await guard.addresses("mixed.example", signal), [{ address: "93.184.216.34", family: 4 }]);
  });

  test("judges the odd spellings of an address by what they resolve to", async () => {
    for (const spelling of ["127.1", "2130706433", "[::1]", "localhost"]) {
      await assert.rejects(egress("deny").addresses(spelling, signal), isProblem("egress", "never"), spelling);
    }
  });

  test("calls neither an unknown name nor a failing name server permanent", async () => {
    for (const code of ["ENOTFOUND", "EAI_AGAIN", "ESERVFAIL", "ETIMEOUT"]) {
      await assert.rejects(
        egress("deny", failing(code)).addresses("x.example", signal),
        isProblem("dns", "later"),
        code,
      );
    }
  });

  test("waits for a silent name server no longer than its deadline", async () => {
    const guard = egress("deny", { resolve: () => new Promise(() => undefined), timeoutMs: 20 });
    await assert.rejects(guard.addresses("x.example", signal), isProblem("timeout", "later"));
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

  test("says which address refused the connection", async () => {
    const attempt = egress("allow").connect({ host: "127.0.0.1", port: 1, timeoutMs: 5000 }, signal);
    await assert.rejects(
      attempt,
      (error) => isProblem("connect", "later")(error) && /127\.0\.0\.1 port 1/.test(String(error)),
    );
  });
});
