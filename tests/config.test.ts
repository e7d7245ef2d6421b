/** The settings: what is refused, what it says, and that docs/settings.md lists them. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { readConfig } from "../shared/config.ts";
import { Problem } from "../shared/contract/problem.ts";
import { listSettingWarnings } from "../shared/setting-warnings.ts";
import { startService } from "./service.ts";
import { settingsPage } from "./tools/settings.ts";

/** The formatter pads the columns. */
const unpadded = (text: string) => text.split("\n").map((row) => row.replace(/ +/g, " ").replace(/-{3,}/g, "---"));
const KEY = `k1:${Buffer.alloc(32, 7).toString("base64")}`;

describe("settings", () => {
  test("docs/settings.md is up to date (bun run settings)", () => {
    const { is, should } = settingsPage();
    assert.deepEqual(unpadded(is), unpadded(should));
  });

  test("without a token the service is for this machine only, whatever HOST says", () => {
    assert.equal(readConfig({ HOST: "0.0.0.0" }).HOST, "127.0.0.1");
    assert.equal(readConfig({ API_TOKENS: "secret" }).HOST, "0.0.0.0");
    assert.equal(readConfig({ API_TOKENS: "secret", HOST: "10.1.2.3" }).HOST, "10.1.2.3");
  });

  test("every wrong setting is named at once, and no value of a secret is told", () => {
    const wrong = { PORT: "ten", ENCRYPTION_KEYS: "k1:tooshort", EGRESS_PRIVATE: "maybe", RETRY_HOURS: "-1" };
    assert.throws(
      () => readConfig(wrong),
      (error: unknown) => {
        assert.ok(error instanceof Problem);
        assert.deepEqual(error.errors.map(({ path }) => path).toSorted(), Object.keys(wrong).toSorted());
        assert.ok(!error.message.includes("tooshort"));
        return true;
      },
    );
  });

  test("production refuses the published example's token and key", () => {
    const env = {
      NODE_ENV: "production",
      API_TOKENS: "published-example-token",
      ENCRYPTION_KEYS: KEY.replace("k1", "published-example"),
    };
    assert.throws(() => readConfig(env), /API_TOKENS must not be .*ENCRYPTION_KEYS must not be/);
    assert.equal(readConfig({ ...env, NODE_ENV: "development" }).API_TOKENS.length, 1);
  });

  test("production refuses every published example that it would use, and the example's key under any id", () => {
    const good = { NODE_ENV: "production", API_TOKENS: "0123456789abcdef", ENCRYPTION_KEYS: KEY };
    const servers = { REDIS_URL: "redis://redis", RABBITMQ_URL: "amqp://rabbitmq", RABBITMQ_LOGIN: "listener" };
    const examples = {
      REDIS_PASSWORD: "published-example-redis",
      RABBITMQ_PASSWORD: "published-example-rabbitmq",
      LISTENERS_ACCESS: "basic:crm:published-example-crm",
      ENCRYPTION_KEYS: "mine:dGhpcyBwdWJsaXNoZWQga2V5IHByb3RlY3RzIG5vbmU=",
    };
    assert.throws(
      () => readConfig({ ...good, ...servers, ...examples }),
      (error: unknown) => {
        assert.ok(error instanceof Problem);
        const refused = error.errors.filter(({ message }) => /published example/.test(message));
        assert.deepEqual(refused.map(({ path }) => path).toSorted(), Object.keys(examples).toSorted());
        return true;
      },
    );
    // One .env serves both Compose files; the single node has neither Redis nor RabbitMQ.
    const { REDIS_PASSWORD, RABBITMQ_PASSWORD } = examples;
    readConfig({ ...good, REDIS_PASSWORD, RABBITMQ_PASSWORD, RABBITMQ_LOGIN: "listener" });
  });

  test("a variable that is no setting but looks like one is said at the start, with the one that was meant", () => {
    const env = { RETRY_HOUR: "5", API_TOKEN: "x", CRM_PLAIN: "a", RABBITMQ_LOGIN_FILE: "/f", MAILBOX_PER_NODE: "9" };
    const warnings = listSettingWarnings({ ...env, RABBITMQ_DEFAULT_USER: "a", REDIS_PORT: "tcp://10.0.0.1:6379" });
    assert.deepEqual(
      warnings.map((line) => /^(\w+) is ignored.*?(?:did you mean (\w+)|$)/.exec(line)?.slice(1)),
      [
        ["RETRY_HOUR", "RETRY_HOURS"],
        ["API_TOKEN", "API_TOKENS"],
        ["CRM_PLAIN", undefined],
        ["RABBITMQ_LOGIN_FILE", undefined],
        ["MAILBOX_PER_NODE", "MAILBOXES_PER_NODE"],
      ],
    );
    assert.deepEqual(listSettingWarnings({ API_TOKEN: "x", API_TOKENS: "x", API_TOKENS_FILE: "" }), []);
    assert.deepEqual(listSettingWarnings({ ...process.env, REDIS_URL: "", RABBITMQ_URL: "" }), []);
  });

  test("passwords with any characters have settings of their own, and go into the URLs encoded", () => {
    const config = readConfig({
      ENCRYPTION_KEYS: KEY,
      REDIS_URL: "redis://redis:6379/3",
      REDIS_PASSWORD: "a@b/c$&,d",
      RABBITMQ_URL: "amqps://guest:guest@one/mail,amqps://two/mail",
      RABBITMQ_LOGIN: "us er",
      RABBITMQ_PASSWORD: "p@s$&,:w",
    });
    assert.equal(config.REDIS_URL?.reveal(), "redis://:a%40b%2Fc%24%26%2Cd@redis:6379/3");
    assert.deepEqual(
      config.RABBITMQ_URL.map((url) => url.reveal()),
      ["amqps://us%20er:p%40s%24%26%2C%3Aw@one/mail", "amqps://us%20er:p%40s%24%26%2C%3Aw@two/mail"],
    );
    assert.throws(() => readConfig({ RABBITMQ_PASSWORD: "x" }), /RABBITMQ_LOGIN must be set/);
    assert.throws(() => readConfig({ RABBITMQ_LOGIN: "x" }), /RABBITMQ_PASSWORD must be set/);
    const ownUser = { ENCRYPTION_KEYS: KEY, REDIS_PASSWORD: "new" };
    const urlOf = (REDIS_URL: string) => readConfig({ ...ownUser, REDIS_URL }).REDIS_URL?.reveal();
    assert.equal(urlOf("redis://b%40b@redis:6379/3"), "redis://b%40b:new@redis:6379/3");
    assert.equal(urlOf("redis+sentinel://bob:old@a,b/main"), "redis+sentinel://bob:new@a,b/main");
  });

  test("a setting under its name of 0.1 is read, with a warning that names both", () => {
    const env = { TAKEN_SECONDS: "8", LISTENERS_ACCESS: "open", LISTENERS_KEYWORD: "crm" };
    const config = readConfig({ ...env, LISTENERS_LOAD_DAYS: "3", LISTENERS_RECORD: "on" });
    assert.deepEqual(
      [config.CLAIM_SECONDS, config.CRM_ACCESS, config.CRM_KEYWORD, config.CRM_LOAD_DAYS, config.CRM_RECORD],
      [8, [{ kind: "open" }], "crm", 3, "on"],
    );
    const [claim = "", access = "", ...others] = listSettingWarnings(env);
    assert.match(claim, /TAKEN_SECONDS.*CLAIM_SECONDS.*until 0\.3\.0/);
    assert.match(access, /LISTENERS_ACCESS.*CRM_ACCESS/);
    assert.doesNotMatch(access, /until/);
    assert.equal(others.length, 1);
  });

  test("a node says at its start that a setting has another name, and which one there is not", async (t) => {
    const service = await startService({ TAKEN_SECONDS: "8", RETRY_HOUR: "5" });
    t.after(() => service.end());
    const warned = service.facts.filter(({ kind }) => kind === "service.warned");
    for (const pattern of [/TAKEN_SECONDS.*CLAIM_SECONDS/, /RETRY_HOUR is ignored.*RETRY_HOURS\?/])
      assert.ok(
        warned.some(({ about }) => pattern.test(String(about))),
        service.output,
      );
    const { body } = await service.call("GET", "/api/v1/diagnostics");
    assert.equal(body.settings.CLAIM_SECONDS, 8);
  });

  test("the new name counts beside the old one, with a warning; an empty variable counts as not set", () => {
    const both = { TAKEN_SECONDS: "8", CLAIM_SECONDS: "9" };
    assert.equal(readConfig(both).CLAIM_SECONDS, 9);
    assert.match(listSettingWarnings(both).join(), /TAKEN_SECONDS is ignored.*CLAIM_SECONDS/);
    // Compose passes variables that nobody has set as empty ones.
    const nothing = { TAKEN_SECONDS: "", LISTENERS_ACCESS: " ", CLAIM_SECONDS: "9", CRM_ACCESS: "" };
    assert.equal(readConfig(nothing).CLAIM_SECONDS, 9);
    assert.deepEqual(listSettingWarnings(nothing), []);
    assert.equal(readConfig({ CLAIM_SECONDS: " ", TAKEN_SECONDS: "8" }).CLAIM_SECONDS, 8);
  });

  test("what is wrong under an old name is named as it is written", () => {
    const wrong = { TAKEN_SECONDS: "soon", LISTENERS_ACCESS: "nonsense", CRM_KEYWORD: "two words" };
    assert.throws(
      () => readConfig(wrong),
      (error: unknown) => {
        assert.ok(error instanceof Problem);
        assert.deepEqual(error.errors.map(({ path }) => path).toSorted(), Object.keys(wrong).toSorted());
        assert.match(error.message, /TAKEN_SECONDS must be a number/);
        return true;
      },
    );
  });

  test("production refuses tokens that can be guessed, and no token is both of the API and of the metrics", () => {
    const env = { NODE_ENV: "production", ENCRYPTION_KEYS: KEY, API_TOKENS: "0123456789abcdef" };
    assert.throws(
      () => readConfig({ ...env, API_TOKENS: "0123456789abcdef,short-0123456" }),
      (error: unknown) => {
        assert.ok(error instanceof Problem);
        assert.match(error.message, /API_TOKENS must have tokens of at least 16 characters/);
        assert.ok(!error.message.includes("short-0123456"));
        return true;
      },
    );
    assert.throws(() => readConfig({ ...env, METRICS_TOKENS: "a" }), /METRICS_TOKENS must have tokens of at least 16/);
    const same = { API_TOKENS: "0123456789abcdef", METRICS_TOKENS: "other-0123456789 0123456789abcdef" };
    assert.throws(() => readConfig(same), /METRICS_TOKENS must not have a token of API_TOKENS/);
    assert.equal(readConfig({ API_TOKENS: "a" }).API_TOKENS.length, 1);
  });

  test("production demands tokens and keys", () => {
    assert.throws(() => readConfig({ NODE_ENV: "production" }), /API_TOKENS must be set.*ENCRYPTION_KEYS must be set/);
    const tokens = { API_TOKENS: "0123456789abcdef, ABCDEFGHIJKLMNOP", METRICS_TOKENS: "another-0123456789" };
    const config = readConfig({ NODE_ENV: "production", ...tokens, ENCRYPTION_KEYS: KEY });
    assert.deepEqual([config.API_TOKENS.length, config.METRICS_TOKENS.length], [2, 1]);
    assert.equal(String(config.ENCRYPTION_KEYS[0]?.key), "[secret]");
  });
});
