/** The settings: what is refused, what it says, and that the README's table is theirs. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { readConfig } from "../shared/config.ts";
import { Problem } from "../shared/contract/problem.ts";
import { readme } from "./tools/settings.ts";

const rows = (text: string) => text.split("\n").filter((line) => line.startsWith("|"));
/** The formatter pads the columns. */
const unpadded = (text: string) => rows(text).map((row) => row.replace(/ +/g, " ").replace(/-{3,}/g, "---"));
const KEY = `k1:${Buffer.alloc(32, 7).toString("base64")}`;

describe("settings", () => {
  test("the README's table is up to date (bun run settings)", () => {
    const { is, should } = readme();
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
  });

  test("production demands tokens and keys", () => {
    assert.throws(() => readConfig({ NODE_ENV: "production" }), /API_TOKENS must be set.*ENCRYPTION_KEYS must be set/);
    const config = readConfig({ NODE_ENV: "production", API_TOKENS: "a, b", ENCRYPTION_KEYS: KEY });
    assert.equal(config.API_TOKENS.length, 2);
    assert.equal(String(config.ENCRYPTION_KEYS[0]?.key), "[secret]");
  });
});
