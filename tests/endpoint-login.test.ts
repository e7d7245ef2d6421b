/** The login at an endpoint is a sealed secret, also when it came in the URL; and URLs with IPv6 addresses work as people write them. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { type ApiNode, startApi } from "./api-node.ts";
import { exampleBody } from "./bodies.ts";
import { signRequest } from "../worker/endpoint/webhook.ts";
import { mailboxStateRequest } from "../worker/endpoint/creatio/callbacks.ts";
import { Mailbox } from "../shared/contract/mailbox.ts";
import { Secret } from "../shared/contract/secret.ts";
import { bracketUrl } from "../shared/contract/url.ts";
import { parseRabbitUrl } from "../shared/queue/rabbitmq/address.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { parseRedisUrl } from "../shared/store/redis/connection/url.ts";
import { openMailbox, sealMailbox } from "../shared/store/sealed-mailboxes.ts";
import { vault } from "../shared/store/vault.ts";
import { mailboxOf } from "./promises/samples.ts";
import * as v from "valibot";

const WITH_LOGIN = "https://ann:p%40ss%2Fword@crm.example.com/mail?t=1";
const URL_ONLY = "https://crm.example.com/mail?t=1";
const box = vault([{ id: "k1", key: generateEncryptionKey() }]);

const at = (id: string) => `/api/v1/mailboxes/${id}`;

const withToken = (oauth2: object) => ({ user: "u", oauth2: { clientId: "c", ...oauth2 } });

describe("The login at an endpoint", () => {
  let node: ApiNode;
  before(async () => {
    node = await startApi();
  });
  after(() => node.close());

  async function registered(): Promise<string> {
    const id = randomUUID();
    const made = await node.call("PUT", at(id), exampleBody({ deliver: { url: WITH_LOGIN } }));
    assert.equal(made.status, 201, made.text);
    assert.doesNotMatch(made.text, /p%40ss|p@ss/);
    return id;
  }
  const stored = async (id: string) => (await node.store.mailboxes.get(id))?.mailbox.deliver;

  test("is moved out of the URL, and the API shows the user only", async () => {
    const id = await registered();
    const { deliver } = (await node.call("GET", at(id))).body;
    assert.deepEqual([deliver.url, deliver.auth], [URL_ONLY, { user: "ann" }]);
    assert.equal((await stored(id))?.auth?.password.reveal(), "p@ss/word");
  });

  test("stays with other changes, and goes to another server only if it is given again", async () => {
    const id = await registered();
    assert.equal((await node.call("PATCH", at(id), { deliver: { url: `${URL_ONLY}&u=2` } })).status, 200);
    assert.equal((await stored(id))?.auth?.password.reveal(), "p@ss/word");
    const moved = await node.call("PATCH", at(id), { deliver: { url: "https://evil.example/" } });
    assert.deepEqual([moved.status, moved.body.errors[0].path], [422, "deliver.auth.password"]);
    const given = { deliver: { url: "https://bob:new@other.example/" } };
    assert.equal((await node.call("PATCH", at(id), given)).status, 200);
    const { url, auth } = (await stored(id)) ?? {};
    assert.deepEqual([url, auth?.user, auth?.password.reveal()], ["https://other.example/", "bob", "new"]);
    assert.equal((await node.call("PATCH", at(id), { deliver: { auth: null } })).status, 200);
    assert.equal((await stored(id))?.auth, undefined);
  });

  test("is in the request, in whatever dialect", async () => {
    const deliver = { url: URL_ONLY, auth: { user: "ann", password: new Secret("p@ss/word") } };
    const whole = { ...mailboxOf("a"), deliver: { ...mailboxOf("a").deliver, ...deliver } };
    assert.match(mailboxStateRequest(whole, null).url, /^https:\/\/ann:p%40ss%2Fword@crm\.example\.com\//);
    const body = { id: "d", contentType: "text/plain", headers: {}, body: "x" };
    assert.equal((await signRequest(whole, body, new Date())).url, WITH_LOGIN);
  });

  test("of a URL that 0.1 stored is read, and sealed with the next write once no node of 0.1 is there", () => {
    const old = { ...JSON.parse(JSON.stringify(sealMailbox(mailboxOf("a"), box, "field"))) };
    old.deliver = { ...old.deliver, url: WITH_LOGIN };
    const opened = openMailbox(old, box, "field");
    assert.deepEqual([opened.deliver.url, opened.deliver.auth?.password.reveal()], [URL_ONLY, "p@ss/word"]);
    assert.equal((sealMailbox(opened, box, "field") as typeof old).deliver.url, WITH_LOGIN);
    const anew = sealMailbox(opened, box, "places") as typeof old;
    assert.equal(anew.deliver.url, URL_ONLY);
    assert.doesNotMatch(JSON.stringify(anew), /p@ss|p%40ss/);
    assert.equal(openMailbox(anew, box).deliver.auth?.password.reveal(), "p@ss/word");
  });

  test("of a token URL that 0.1 stored becomes the client's secret, and leaves the URL", () => {
    const tokenUrl = "https://c:p%40ss%2Fword@login.example.com/token";
    const sealed = JSON.parse(JSON.stringify(sealMailbox(mailboxOf("a"), box, "field")));
    const readAs = (part: "receive" | "send", auth: object) => {
      const { receive, ...rest } = sealed;
      const old =
        part === "receive" ? { ...sealed, receive: { ...receive, auth } } : { ...rest, receive, send: { auth } };
      const mailbox = openMailbox(old, box, "field");
      const given = part === "receive" ? mailbox.receive.auth : mailbox.send?.auth;
      assert.ok(given && "oauth2" in given);
      const { clientSecret } = given.oauth2;
      for (const form of ["field", "places"] as const) {
        const doc = sealMailbox(mailbox, box, form);
        assert.doesNotMatch(JSON.stringify(doc), /p@ss|p%40ss/);
        const auths = openMailbox(doc, box, form);
        const again = part === "receive" ? auths.receive.auth : auths.send?.auth;
        assert.ok(again && "oauth2" in again);
        assert.equal(again.oauth2.clientSecret?.reveal(), clientSecret?.reveal());
      }
      return [given.oauth2.tokenUrl, clientSecret?.reveal()];
    };
    const url = "https://login.example.com/token";
    for (const part of ["receive", "send"] as const) {
      assert.deepEqual(readAs(part, withToken({ tokenUrl })), [url, "p@ss/word"]);
      const own = box.sealForOldNodes("own", `a|${part}.auth.oauth2.clientSecret`);
      assert.deepEqual(readAs(part, withToken({ tokenUrl, clientSecret: own })), [url, "own"]);
      assert.deepEqual(readAs(part, withToken({ tokenUrl: url })), [url, undefined]);
    }
  });

  test("has no place in a token URL", async () => {
    const auth = {
      user: "u",
      oauth2: { tokenUrl: "https://a:b@login.example.com/", clientId: "c", refreshToken: "r" },
    };
    const answer = await node.call(
      "POST",
      "/api/v1/mailboxes",
      exampleBody({ receive: { ...exampleBody().receive, auth } }),
    );
    assert.equal(answer.status, 422);
    assert.match(answer.text, /tokenUrl.*must not hold a login/);
  });
});

describe("An IPv6 address", () => {
  test("gets the brackets that a URL needs", () => {
    const forms = {
      "http://::1:8080/x": "http://[::1]:8080/x",
      "http://::1/x": "http://[::1]/x",
      "https://u:p@2001:db8::5/x": "https://u:p@[2001:db8::5]/x",
      "http://2001:db8:0:0:0:0:0:1:443": "http://[2001:db8:0:0:0:0:0:1]:443",
      "http://[::1]:80/": "http://[::1]:80/",
      "http://a.example:80/::1": "http://a.example:80/::1",
      "http://1:2:3/": "http://1:2:3/",
    };
    for (const [written, meant] of Object.entries(forms)) assert.equal(bracketUrl(written), meant);
    const parsed = v.parse(Mailbox.entries.deliver, { url: "http://::1:8080/x" });
    assert.equal(parsed.url, "http://[::1]:8080/x");
  });

  test("works with and without brackets for Redis and RabbitMQ", () => {
    for (const host of ["::1", "[::1]", "2001:db8::5", "[2001:db8::5]"]) {
      const address = host.replaceAll(/[[\]]/g, "");
      assert.deepEqual(parseRedisUrl(`redis://${host}/2`).hosts, [{ host: address, port: 6379 }]);
      assert.deepEqual(parseRedisUrl(`redis://:pw@${host}:6390`).hosts, [{ host: address, port: 6390 }]);
      assert.deepEqual(parseRabbitUrl(`amqp://${host}`).server, { host: address, port: 5672 });
      assert.deepEqual(parseRabbitUrl(`amqp://u:p@${host}:5673/v`).server, { host: address, port: 5673 });
    }
    const sentinels = parseRedisUrl("redis+sentinel://::1:26380,[fd00::2]/main").hosts;
    assert.deepEqual(sentinels, [
      { host: "::1", port: 26380 },
      { host: "fd00::2", port: 26379 },
    ]);
  });
});
