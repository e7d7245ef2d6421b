/** OAuth2 access tokens, fetched from a real token endpoint over HTTP. */
import assert from "node:assert/strict";
import { createHash, verify, X509Certificate } from "node:crypto";
import { createServer, type ServerResponse } from "node:http";
import { after, before, beforeEach, describe, test, type TestContext } from "node:test";
import { processLocks } from "../shared/concurrency/locks.ts";
import type { Mailbox, MailboxOf } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { egress } from "../shared/egress.ts";
import { type OAuthTokensDeps, oauthTokens } from "../shared/mail/oauth/tokens.ts";
import { storedRefreshTokens } from "../shared/node.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { redisStore } from "../shared/store/redis/store.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import type { Store } from "../shared/store/store.ts";
import { vault } from "../shared/store/vault.ts";
import { isProblem, mailboxOn } from "./promises/mailbox-rig.ts";
import { clientCertificate } from "./servers/certificates.ts";
import { startRedis } from "./servers/redis.ts";
import { startImapServer } from "./servers/imap/server.ts";

const { signal } = new AbortController();
type Answering = (form: URLSearchParams, response: ServerResponse) => void;

function json(response: ServerResponse, body: unknown, status = 200, headers: Record<string, string> = {}): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

/** Gives token 1, token 2 and so on. */
function giving(more: object = {}): Answering {
  let count = 0;
  return (_, response) =>
    json(response, { access_token: `token ${++count}`, token_type: "Bearer", expires_in: 3600, ...more });
}

const read = (part: string): Record<string, unknown> => JSON.parse(Buffer.from(part, "base64url").toString());

/** The tokens of a process whose mailboxes are not registered, unless the wish says otherwise. */
const tokensWith = (wish: Partial<OAuthTokensDeps> = {}) => {
  const refreshTokens = { read: async () => undefined, replace: async () => undefined };
  return oauthTokens({ egress: egress("allow"), timeoutMs: 2000, locks: processLocks(), refreshTokens, ...wish });
};

const storedToken = async (store: Store, id: string) => {
  const auth = (await store.mailboxes.get(id))?.mailbox.receive.auth;
  return auth && "oauth2" in auth ? auth.oauth2.refreshToken?.reveal() : undefined;
};

describe("An OAuth2 token", () => {
  const asked: URLSearchParams[] = [];
  const saved: string[] = [];
  let answer: Answering;
  let url = "";
  let template: MailboxOf<"imap">;
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      const form = new URLSearchParams(Buffer.concat(parts).toString());
      asked.push(form);
      answer(form, response);
    });
  });

  before(async () => {
    const imap = await startImapServer({ tls: null });
    template = mailboxOn(imap, "someone");
    await imap.stop();
    server.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const bound = server.address();
    if (bound && typeof bound === "object") url = `http://127.0.0.1:${bound.port}/token`;
  });
  after(() => void server.close());
  beforeEach(() => {
    asked.length = 0;
    saved.length = 0;
    answer = giving();
  });

  const fresh = (save = async (token: Secret) => void saved.push(token.reveal())) =>
    tokensWith({ refreshTokens: { read: async () => undefined, replace: (_owner, _used, next) => save(next) } });
  const mailbox = (refreshToken?: string): Mailbox => {
    const oauth2 = {
      tokenUrl: url,
      clientId: "us",
      clientSecret: new Secret("hush"),
      scope: "mail",
      ...(refreshToken === undefined ? {} : { refreshToken: new Secret(refreshToken) }),
    };
    return { ...template, receive: { ...template.receive, auth: { user: "someone", oauth2 } } };
  };

  test("is fetched once for all who ask at the same time, and kept", async () => {
    const tokens = fresh();
    const given = await Promise.all([1, 2, 3].map(() => tokens.access(mailbox("r1"), signal)));
    given.push(await tokens.access(mailbox("r1"), signal));
    assert.deepEqual(new Set(given.map((one) => one.reveal())), new Set(["token 1"]));
    assert.equal(asked.length, 1);
    assert.deepEqual(Object.fromEntries(asked[0] ?? []), {
      grant_type: "refresh_token",
      refresh_token: "r1",
      client_id: "us",
      client_secret: "hush",
      scope: "mail",
    });
  });

  test("is fetched by the client's own credentials where there is no refresh token", async () => {
    await fresh().access(mailbox(), signal);
    assert.equal(asked[0]?.get("grant_type"), "client_credentials");
  });

  test("of an application that acts for itself is one for all its mailboxes", async () => {
    const tokens = fresh();
    const boxes = ["a", "b", "c"].map((id) => ({ ...mailbox(), id }));
    const given = await Promise.all(boxes.map((box) => tokens.access(box, signal)));
    assert.deepEqual(new Set(given.map((one) => one.reveal())), new Set(["token 1"]));
    tokens.forget("b", "token 1");
    tokens.forget("c", "token 1");
    const [first = template] = boxes;
    assert.equal((await tokens.access(first, signal)).reveal(), "token 2");
    // The refusal of the earlier token, told late, does not cost the new one.
    tokens.forget("a", "token 1");
    assert.equal((await tokens.access(first, signal)).reveal(), "token 2");
    assert.equal(asked.length, 2);
  });

  for (const algorithm of ["RS256", "ES256"] as const)
    test(`is fetched with a statement signed by the client's certificate (${algorithm})`, async () => {
      const { certificate, privateKey } = await clientCertificate(algorithm);
      const oauth2 = { tokenUrl: url, clientId: "us", certificate, privateKey: new Secret(privateKey) };
      const auth = { user: "someone", oauth2 };
      await fresh().access({ ...template, receive: { ...template.receive, auth } }, signal);
      const form = Object.fromEntries(asked[0] ?? []);
      assert.equal(form["grant_type"], "client_credentials");
      assert.equal(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
      assert.ok(!("client_secret" in form));
      const [header = "", claims = "", signature = ""] = (form["client_assertion"] ?? "").split(".");
      const { raw, publicKey } = new X509Certificate(certificate);
      const key = { key: publicKey, dsaEncoding: "ieee-p1363" } as const;
      assert.ok(verify("sha256", Buffer.from(`${header}.${claims}`), key, Buffer.from(signature, "base64url")));
      assert.equal(read(header)["alg"], algorithm);
      assert.equal(read(header)["x5t#S256"], createHash("sha256").update(raw).digest("base64url"));
      const { aud, iss, sub, exp, nbf, jti } = read(claims);
      assert.deepEqual([aud, iss, sub], [url, "us", "us"]);
      assert.ok(
        Number(exp) > Date.now() / 1000 && Number(exp) < Date.now() / 1000 + 600 && Number(nbf) < Date.now() / 1000,
      );
      assert.match(String(jti), /^[0-9a-f-]{36}$/);
    });

  test("is not asked for with a certificate that expired, or with another's key, nor is the key ever told", async () => {
    const [good, other] = await Promise.all([clientCertificate("ES256"), clientCertificate("ES256")]);
    const old = await clientCertificate("ES256", new Date(Date.now() - 1000));
    for (const [certificate, privateKey, words] of [
      [old.certificate, old.privateKey, /expired on/],
      [good.certificate, other.privateKey, /does not belong/],
      [good.certificate, "-----BEGIN NOTHING-----", /cannot be read/],
    ] as const) {
      const oauth2 = { tokenUrl: url, clientId: "us", certificate, privateKey: new Secret(privateKey) };
      const box = { ...template, receive: { ...template.receive, auth: { user: "someone", oauth2 } } };
      const refused: unknown = await fresh()
        .access(box, signal)
        .catch((error: unknown) => error);
      assert.ok(isProblem("token", "never")(refused) && refused instanceof Problem);
      assert.match(refused.message, words);
      assert.ok(!`${refused.message} ${String(refused.cause)}`.includes("BEGIN"));
    }
    assert.equal(asked.length, 0);
  });

  test("is fetched anew a minute before it expires, or once the mail server refused it", async () => {
    const tokens = fresh();
    answer = giving({ expires_in: 50 });
    await tokens.access(mailbox("r1"), signal);
    await tokens.access(mailbox("r1"), signal);
    assert.equal(asked.length, 2);
    answer = giving();
    const refused = await tokens.access(mailbox("r1"), signal);
    tokens.forget(template.id, refused.reveal());
    await tokens.access(mailbox("r1"), signal);
    assert.equal(asked.length, 4);
  });

  test("comes with a new refresh token that is kept and used, also by who still holds the old one", async () => {
    const tokens = fresh();
    answer = giving({ expires_in: 50, refresh_token: "r2" });
    await tokens.access(mailbox("r1"), signal);
    assert.deepEqual(saved, ["r2"]);
    await tokens.access(mailbox("r1"), signal);
    await tokens.access(mailbox("r2"), signal);
    assert.deepEqual(
      asked.map((one) => one.get("refresh_token")),
      ["r1", "r2", "r2"],
    );
  });

  test("is not given out before its new refresh token is kept", async () => {
    let fail = true;
    const tokens = fresh(async (token) => {
      if (fail) throw new Problem("store", "The disk is full");
      saved.push(token.reveal());
    });
    answer = giving({ refresh_token: "r2" });
    await assert.rejects(tokens.access(mailbox("r1"), signal), isProblem("store"));
    fail = false;
    await tokens.access(mailbox("r1"), signal);
    assert.deepEqual([saved, asked.length], [["r2"], 1]);
  });

  test("that is refused for good is never asked for again", async () => {
    const error_description = "AADSTS50173: The provided grant has expired";
    answer = (_, response) => json(response, { error: "invalid_grant", error_description }, 400);
    await assert.rejects(fresh().access(mailbox("r1"), signal), (error) => {
      assert.ok(isProblem("token", "never")(error), String(error));
      assert.match(String(error instanceof Problem && error.evidence), /AADSTS50173/);
      return true;
    });
  });

  test("that a busy server does not give is asked for when it says", async () => {
    answer = (_, response) => json(response, {}, 429, { "retry-after": "120" });
    const asking = Date.now();
    await assert.rejects(fresh().access(mailbox("r1"), signal), (error) => {
      assert.ok(error instanceof Problem && error.code === "unavailable" && error.retry instanceof Date);
      return error.retry.getTime() >= asking + 120_000;
    });
    answer = (_, response) => json(response, "oops", 503);
    await assert.rejects(fresh().access(mailbox("r1"), signal), isProblem("unavailable", "later"));
  });

  test("does not wait for a silent server, nor believe a broken one", async () => {
    answer = () => undefined;
    const hasty = tokensWith({ timeoutMs: 100 });
    await assert.rejects(hasty.access(mailbox("r1"), signal), isProblem("timeout", "later"));
    answer = (_, response) => response.destroy();
    await assert.rejects(fresh().access(mailbox("r1"), signal), isProblem("connect", "later"));
    answer = (_, response) => response.end("<html>not a token</html>");
    await assert.rejects(fresh().access(mailbox("r1"), signal), isProblem("token", "later"));
  });

  test("is read from answers that are looser than the standard", async () => {
    const other = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2Vsc2V3aGVyZS50ZXN0In0.";
    for (const loose of [
      { token_type: "Bearer", expires_in: "3600", id_token: other, scope: ["mail"] },
      { token_type: "bearer", expires_in: null, refresh_token: "" },
      { expires_in: 0, refresh_token: null },
    ]) {
      answer = (_, response) => {
        response.writeHead(200, { "content-type": "text/html" });
        response.end(JSON.stringify({ access_token: "good", ...loose }));
      };
      assert.equal((await fresh().access(mailbox("r1"), signal)).reveal(), "good");
    }
    assert.deepEqual(saved, []);
  });

  test("is not taken from an answer that says something else, whatever its status", async () => {
    const error = { error: "invalid_grant", error_description: "expired" };
    const challenge = { "www-authenticate": 'Basic realm="clients"' };
    for (const [status, body, headers, retry] of [
      [200, error, {}, "never"],
      [401, { ...error, error: "invalid_client" }, challenge, "never"],
      [404, {}, {}, "later"],
      [302, {}, { location: "https://elsewhere.test/" }, "later"],
      [304, {}, {}, "later"],
      [200, { access_token: 17, expires_in: 1 }, {}, "later"],
      [200, { access_token: "good", token_type: "mac" }, {}, "later"],
    ] as const) {
      answer = (_, response) => json(response, body, status, headers);
      const refused: unknown = await fresh()
        .access(mailbox("r1"), signal)
        .catch((failure: unknown) => failure);
      assert.ok(isProblem("token", retry)(refused) && refused instanceof Problem, `${status} ${String(refused)}`);
      assert.match(refused.message, new RegExp(`HTTP ${status}`));
      if (retry === "never") assert.match(refused.evidence ?? "", /^invalid_\w+: expired$/);
    }
    answer = (_, response) => json(response, error, 999);
    await assert.rejects(fresh().access(mailbox("r1"), signal), isProblem("unavailable", "later"));
  });

  test("is not fetched from a forbidden address", async () => {
    const guarded = tokensWith({ egress: egress("deny") });
    await assert.rejects(guarded.access(mailbox("r1"), signal), isProblem("egress", "never"));
    assert.equal(asked.length, 0);
  });

  /**
   * A provider as strict as RFC 9700 asks for (section 4.14.2): each refresh token is good for one use, and one that
   * comes a second time ends the grant. `delayMs` is how long an answer takes.
   */
  function strictProvider(delayMs = 20) {
    let newest = "r1";
    let count = 0;
    const revoked: string[] = [];
    answer = (form, response) => {
      const shown = form.get("refresh_token") ?? "";
      if (shown !== newest) revoked.push(shown);
      const isGood = shown === newest && revoked.length === 0;
      newest = isGood ? `r${++count + 1}` : newest;
      const grant = { access_token: `token ${count}`, token_type: "Bearer", expires_in: 30, refresh_token: newest };
      setTimeout(() => json(response, isGood ? grant : { error: "invalid_grant" }, isGood ? 200 : 400), delayMs);
    };
    return { revoked, newest: () => newest };
  }

  for (const place of ["one process", "two nodes over Redis"])
    test(`with a refresh token that is good for one use is renewed by one at a time: ${place}`, async (t) => {
      const stores = place === "one process" ? [await sqlite()] : await nodesOverRedis(t);
      const [store] = stores;
      assert.ok(store);
      const provider = strictProvider();
      const registered = await store.mailboxes.put({ ...mailbox("r1"), revision: 0 });
      const nodes = stores.map(({ locks, mailboxes }) =>
        tokensWith({ timeoutMs: 10_000, locks, refreshTokens: storedRefreshTokens(mailboxes) }),
      );
      for (let round = 0; round < 3; round++)
        // Each holds the mailbox as it was at the start, and tokens of thirty seconds are too old at once.
        await Promise.all(nodes.flatMap((tokens) => [1, 2, 3].map(() => tokens.access(registered, signal))));
      assert.deepEqual(provider.revoked, []);
      assert.equal(asked.length, 3 * nodes.length);
      assert.equal(await storedToken(store, registered.id), provider.newest());
      for (const one of stores) await one.close();
    });

  test("comes with a refresh token that is stored before anybody gets the token, and is not lost by other changes", async () => {
    const store = await sqlite();
    const provider = strictProvider(0);
    const registered = await store.mailboxes.put({ ...mailbox("r1"), revision: 0 });
    const tokens = tokensWith({ locks: store.locks, refreshTokens: storedRefreshTokens(store.mailboxes) });
    const amend = (told: string) => store.mailboxes.amend(registered, (stored) => ({ ...stored, told }));
    for (let n = 0; n < 5; n++) {
      const [token] = await Promise.all([tokens.access(registered, signal), amend(`state ${n}`)]);
      assert.equal(token.reveal(), `token ${n + 1}`);
      assert.equal(await storedToken(store, registered.id), provider.newest());
    }
    assert.equal((await store.mailboxes.get(registered.id))?.mailbox.told, "state 4");
    await store.close();
  });

  test("never comes from the stored login for somebody who wants it for another server", async () => {
    const store = await sqlite();
    const registered = await store.mailboxes.put({ ...mailbox("r1"), revision: 0 });
    const refreshTokens = storedRefreshTokens(store.mailboxes);
    answer = giving();
    const { receive } = mailbox("a guess");
    const usedAt = async (place: object) => {
      const tokens = tokensWith({ locks: store.locks, refreshTokens });
      await tokens.access({ ...registered, receive: { ...receive, ...place } as typeof receive }, signal);
      return asked.at(-1)?.get("refresh_token");
    };
    assert.equal(await usedAt({ host: "evil.example" }), "a guess");
    assert.equal(await usedAt({ tls: "starttls" }), "a guess");
    assert.equal(await usedAt({ port: 1143 }), "a guess");
    assert.equal(await usedAt({}), "r1", "at its place the stored one is the newer");
    await store.close();
  });

  test("does not replace the refresh token that a person gave meanwhile", async () => {
    const store = await sqlite();
    const registered = await store.mailboxes.put({ ...mailbox("r1"), revision: 0 });
    const tokens = tokensWith({ locks: store.locks, refreshTokens: storedRefreshTokens(store.mailboxes) });
    answer = (_, response) => {
      void store.mailboxes
        .put({ ...registered, receive: mailbox("a person's").receive })
        .then(() => json(response, { access_token: "t", expires_in: 30, refresh_token: "r2" }));
    };
    await tokens.access(registered, signal);
    assert.equal(await storedToken(store, registered.id), "a person's");
    answer = giving();
    await tokens.access(registered, signal);
    assert.equal(asked.at(-1)?.get("refresh_token"), "a person's");
    await store.close();
  });
});

const keys = vault([{ id: "k1", key: generateEncryptionKey() }]);
const limits = { vault: keys, windowDays: 7, spoolBytes: 1e6 };

function sqlite(): Promise<Store> {
  return sqliteStore({ path: ":memory:", ...limits });
}

async function nodesOverRedis(t: TestContext): Promise<Store[]> {
  const redis = await startRedis();
  t.after(() => redis.remove());
  const open = () => redisStore({ url: redis.url, prefix: "oauth", ...limits });
  return [await open(), await open()];
}
