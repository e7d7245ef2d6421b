/** Who calls: a client behind proxies, a program on this machine, or a web page in somebody's browser that must not be a way in. */
import assert from "node:assert/strict";
import { request as ask } from "node:http";
import { describe, test } from "node:test";
import { clientOf } from "../api/http/client.ts";
import { readConfig } from "../shared/config.ts";
import { type ApiNode, startApi } from "./api-node.ts";

async function withNode(env: Record<string, string>, work: (node: ApiNode) => Promise<void>): Promise<void> {
  const node = await startApi(env);
  try {
    await work(node);
  } finally {
    await node.close();
  }
}

/** By node:http, because fetch does not let a caller choose Host and Origin. A header that is undefined is not sent. */
function post(url: string, headers: Record<string, string | undefined> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = ask(
      url,
      { method: "POST", headers: JSON.parse(JSON.stringify({ "content-type": "application/json", ...headers })) },
      (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      },
    );
    sent.on("error", reject);
    sent.end("[]");
  });
}

const stateOf = (node: ApiNode, headers: Record<string, string> = {}) =>
  post(`${node.url}/api/listeners/state`, headers);
const TOKENS = { API_TOKENS: "a-token-of-the-api" };
const bearer = { authorization: "Bearer a-token-of-the-api" };

const FOREIGN_PAGES: Record<string, string>[] = [
  { origin: "https://evil.example" },
  { origin: "null" },
  { origin: "" },
  { origin: "http://127.0.0.1" },
  { origin: "http://localhost:3000" },
  { "sec-fetch-site": "cross-site" },
  { "sec-fetch-site": "same-site" },
  { host: "rebound.example", origin: "http://rebound.example" },
];
const FOREIGN_NAMES = [
  "rebound.example",
  "localhost.evil.example",
  "127.0.0.1.nip.io",
  "0.0.0.0",
  "[::]",
  "x.svc.evil.example",
];

describe("a web page of another site", () => {
  for (const access of ["open", "networks:127.0.0.0/8,::1/128", "basic:crm:passw0rd", "path:abcdefgh12", ""])
    test(`cannot act as a CRM from a browser that may (CRM_ACCESS=${access})`, () =>
      withNode({ ...TOKENS, CRM_ACCESS: access }, async (node) => {
        const path = access.startsWith("path:") ? "/abcdefgh12/api/listeners/state" : "/api/listeners/state";
        const login =
          access === "" ? bearer : { authorization: `Basic ${Buffer.from("crm:passw0rd").toString("base64")}` };
        assert.equal(await post(node.url + path, login), 200, "the CRM itself");
        for (const page of FOREIGN_PAGES)
          assert.equal(await post(node.url + path, { ...login, ...page }), 403, JSON.stringify(page));
        for (const host of FOREIGN_NAMES) assert.equal(await post(node.url + path, { ...login, host }), 403, host);
        for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
          assert.equal(await post(node.url + path, { ...login, "content-type": type }), 415, type);
        // A page of the service's own host cannot send a body without a type either; a program can.
        const untyped = { ...login, "content-type": undefined };
        const { origin } = new URL(node.url);
        assert.equal(await post(node.url + path, { ...untyped, origin }), 415, "a browser");
        assert.equal(await post(node.url + path, { ...untyped, "sec-fetch-site": "none" }), 415, "a browser");
        assert.equal(await post(node.url + path, untyped), 200, "a program");
      }));

  test("cannot call the API without tokens, and a proxy on this machine cannot either", () =>
    withNode({}, async (node) => {
      const forwarded = ["x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-host"].map((name) => ({
        [name]: "127.0.0.1",
      }));
      for (const headers of [...FOREIGN_PAGES, ...FOREIGN_NAMES.map((host) => ({ host })), ...forwarded])
        for (const path of ["/api/v1/mailboxes/none/pause", "/api/listeners/state"])
          assert.equal(await post(node.url + path, headers), 403, `${path} ${JSON.stringify(headers)}`);
      assert.equal(await stateOf(node), 200);
    }));
});

describe("the service's own names", () => {
  test("are addresses, names without a dot, and those of PUBLIC_URL, which pages may have as their origin", () =>
    withNode(
      { CRM_ACCESS: "open", PUBLIC_URL: "https://mail.example.com:8443/x, http://listener.corp.example" },
      async (node) => {
        const { port } = new URL(node.url);
        for (const host of ["127.0.0.1", "localhost", `localhost:${port}`, "[::1]:99", "10.1.2.3:10000", "listener"])
          assert.equal(await stateOf(node, { host }), 200, host);
        for (const host of [
          "mail.example.com",
          "MAIL.example.com.",
          "listener.corp.example:10000",
          "api.mail.svc.cluster.local",
        ])
          assert.equal(await stateOf(node, { host }), 200, host);
        assert.equal(await stateOf(node, { host: "other.example.com" }), 403);
        assert.equal(await stateOf(node, { origin: "https://mail.example.com:8443" }), 200);
        assert.equal(await stateOf(node, { origin: "https://mail.example.com" }), 403);
      },
    ));

  test("and networks of proxies are checked at the start", () => {
    assert.throws(() => readConfig({ PUBLIC_URL: "mail.example.com" }), /PUBLIC_URL must be URLs/);
    assert.throws(() => readConfig({ TRUSTED_PROXIES: "proxy" }), /TRUSTED_PROXIES must name addresses/);
  });
});

describe("the caller", () => {
  test("without CRM_ACCESS is a holder of a token, if the service has tokens", () =>
    withNode(TOKENS, async (node) => {
      assert.equal(await stateOf(node), 401);
      assert.equal(await stateOf(node, bearer), 200);
    }));

  test("behind a proxy that nobody named is in no network", () =>
    withNode({ CRM_ACCESS: "networks:127.0.0.0/8,10.20.0.0/16" }, async (node) => {
      assert.equal(await stateOf(node), 200);
      for (const name of ["x-forwarded-for", "forwarded", "x-real-ip"])
        assert.equal(await stateOf(node, { [name]: "10.20.0.5" }), 403, name);
    }));

  test("behind a named proxy is whom the proxy names", () =>
    withNode({ CRM_ACCESS: "networks:10.20.0.0/16", TRUSTED_PROXIES: "127.0.0.1 10.99.0.0/16" }, async (node) => {
      const from = (list: string) => stateOf(node, { "x-forwarded-for": list });
      for (const list of ["10.20.0.5", "10.20.0.5:4711", "10.20.0.5, 10.99.1.1", "203.0.113.9, 10.20.0.5"])
        assert.equal(await from(list), 200, list);
      for (const list of ["203.0.113.9", "10.20.0.5, 203.0.113.9", "unknown", "10.20.0.5, unknown", "", "10.99.1.1"])
        assert.equal(await from(list), 403, list);
      assert.equal(await stateOf(node, { forwarded: "for=10.20.0.5" }), 403, "only X-Forwarded-For counts");
      assert.equal(await stateOf(node), 403, "the proxy itself is no CRM");
    }));

  test("has the address that a trusted proxy saw last", () => {
    const config = readConfig({ TRUSTED_PROXIES: "10.99.0.0/16 2001:db8::1" });
    const caller = (peer: string, list?: string) => {
      const headers: Record<string, string> = list === undefined ? {} : { "x-forwarded-for": list };
      const { address, isCertain } = clientOf(new Request("http://localhost/", { headers }), peer, config);
      return `${address} ${isCertain}`;
    };
    assert.equal(caller("192.0.2.1"), "192.0.2.1 true");
    assert.equal(caller("192.0.2.1", "10.20.0.5"), "192.0.2.1 false");
    assert.equal(caller("10.99.0.7", "10.20.0.5"), "10.20.0.5 true");
    assert.equal(caller("::ffff:10.99.0.7", "1.1.1.1, [2001:db8::2]:443"), "2001:db8::2 true");
    assert.equal(caller("2001:db8::1", "1.1.1.1,10.99.0.9"), "1.1.1.1 true");
    assert.equal(caller("10.99.0.7", "10.20.0.5, junk"), "10.99.0.7 false");
  });
});
