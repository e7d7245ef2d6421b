/** OAuth2 access tokens, fetched from a real token endpoint over HTTP. */
import assert from "node:assert/strict";
import { createHash, verify, X509Certificate } from "node:crypto";
import { createServer, type ServerResponse } from "node:http";
import { after, before, beforeEach, describe, test } from "node:test";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { egress } from "../shared/egress.ts";
import { oauthTokens } from "../shared/mail/oauth/tokens.ts";
import { isProblem, mailboxOn } from "./promises/mailbox-rig.ts";
import { clientCertificate } from "./servers/certificates.ts";
import { startImapServer } from "./servers/imap/server.ts";

const signal = AbortSignal.timeout(60_000);
type Answering = (form: URLSearchParams, response: ServerResponse) => void;

function json(response: ServerResponse, body: unknown, status = 200, headers: Record<string, string> = {}): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

/** Gives token 1, token 2 and so on. */
function giving(more: object = {}): Answering {
  let count = 0;
  return (_, response) => json(response, { access_token: `token ${++count}`, expires_in: 3600, ...more });
}

const read = (part: string): Record<string, unknown> => JSON.parse(Buffer.from(part, "base64url").toString());

describe("An OAuth2 token", () => {
  const asked: URLSearchParams[] = [];
  const saved: string[] = [];
  let answer: Answering;
  let url = "";
  let template: Mailbox;
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

  const fresh = (onRotated = async (_: string, token: Secret) => void saved.push(token.reveal())) =>
    oauthTokens({ egress: egress("allow"), timeoutMs: 2000, onRotated });
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
    tokens.forget("b");
    const [first = template] = boxes;
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
    await tokens.access(mailbox("r1"), signal);
    tokens.forget(template.id);
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
    const tokens = fresh(async (_, token) => {
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
    const hasty = oauthTokens({ egress: egress("allow"), timeoutMs: 100, onRotated: async () => undefined });
    await assert.rejects(hasty.access(mailbox("r1"), signal), isProblem("timeout", "later"));
    answer = (_, response) => response.destroy();
    await assert.rejects(fresh().access(mailbox("r1"), signal), isProblem("connect", "later"));
    answer = (_, response) => response.end("<html>not a token</html>");
    await assert.rejects(fresh().access(mailbox("r1"), signal), isProblem("token", "later"));
  });

  test("is not fetched from a forbidden address", async () => {
    const guarded = oauthTokens({ egress: egress("deny"), onRotated: async () => undefined });
    await assert.rejects(guarded.access(mailbox("r1"), signal), isProblem("egress", "never"));
    assert.equal(asked.length, 0);
  });
});
