/**
 * The configuration: turns environment variables into one frozen Config, or throws one Problem that names everything
 * that is wrong.
 */
import * as v from "valibot";
import { type FieldError, Problem } from "./contract/problem.ts";
import { Secret } from "./contract/secret.ts";
import { readSecretFile } from "./private-files.ts";
import { RENAMED_SETTINGS, SECRET_SETTINGS, SETTINGS } from "./settings.ts";

type Environment = Record<string, string | undefined>;
type Settings = typeof SETTINGS;
export type Config = { readonly [K in keyof Settings]: v.InferOutput<Settings[K]["schema"]> };

/**
 * What the published examples have in them, such as those in `compose/.env.example`; the second one is the text of the
 * key, whatever its id is. They protect nothing.
 */
const EXAMPLE_MARKERS = ["published-example", "dGhpcyBwdWJsaXNoZWQga2V5"];
/** A password that nothing uses may be the example's. */
const USED_WITH: Readonly<Record<string, string>> = { REDIS_PASSWORD: "REDIS_URL", RABBITMQ_PASSWORD: "RABBITMQ_URL" };

/** Characters that a token has at least in production. Shorter ones can be guessed. */
const MIN_TOKEN_LENGTH = 16;
const TOO_SHORT = `must have tokens of at least ${MIN_TOKEN_LENGTH} characters when NODE_ENV=production (\`openssl rand -hex 32\` makes one)`;

/** The tokens of a parsed setting; none if it could not be parsed. */
function tokensIn(setting: unknown): string[] {
  return Array.isArray(setting) ? setting.filter((one) => one instanceof Secret).map((one) => one.reveal()) : [];
}

/** The URL with this password in place of its own, percent-encoded, and with this user if one is given. */
function withCredentials(url: Secret, password: Secret | undefined, user?: string): Secret {
  if (password === undefined) return url;
  const encoded = encodeURIComponent(password.reveal());
  const withLogin = (_: string, scheme: string, own: string | undefined) =>
    `${scheme}${user === undefined ? (own ?? "") : encodeURIComponent(user)}:${encoded}@`;
  return new Secret(url.reveal().replace(/^([a-z+]+:\/\/)(?:([^@/:]*)(?::[^@/]*)?@)?/, withLogin));
}

/** The variable of a setting: its own name, or its name of 0.1 if only that one is set. */
function variableOf(env: Environment, name: string): string {
  if (env[name]?.trim()) return name;
  const renamed = Object.entries(RENAMED_SETTINGS).find(([old, setting]) => setting.name === name && env[old]?.trim());
  return renamed?.[0] ?? name;
}

/** Where the value of a variable was given: there, or in the file that its `_FILE` names. */
function sourceOf(given: Environment, variable: string): string {
  return given[`${variable}_FILE`]?.trim() ? `${variable}_FILE` : variable;
}

/** Whether a secret that is used is one of the published examples. */
function isExample(env: Environment, name: string): boolean {
  const user = USED_WITH[name];
  if (user !== undefined && !env[user]?.trim()) return false;
  return EXAMPLE_MARKERS.some((marker) => env[name]?.includes(marker));
}

/** The environment with the contents of the files that `<setting>_FILE` names, for settings that are secrets. */
function readSecretFiles(given: Environment, errors: FieldError[]): Environment {
  const env = { ...given };
  for (const name of SECRET_SETTINGS) {
    const variable = `${name}_FILE`;
    const path = given[variable]?.trim();
    if (!path) continue;
    if (given[name]?.trim()) {
      errors.push({ path: variable, message: `must not be set together with ${name}` });
      continue;
    }
    try {
      env[name] = readSecretFile(path);
      if (env[name] === "") errors.push({ path: variable, message: `names an empty file: ${path}` });
    } catch (error) {
      errors.push({ path: variable, message: error instanceof Error ? error.message : String(error) });
    }
  }
  return env;
}

/**
 * Reads the settings from an environment, also under their names of 0.1, and secrets also from files (`<setting>_FILE`).
 * Throws one `config` Problem that names every wrong variable as it is written there. It never contains the value of a
 * secret.
 */
export function readConfig(given: Environment): Config {
  const errors: FieldError[] = [];
  const env = readSecretFiles(given, errors);
  const config: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(SETTINGS)) {
    const variable = variableOf(env, name);
    const result = v.safeParse(setting.schema, env[variable]?.trim() || setting.default);
    if (result.success) config[name] = result.output;
    else errors.push({ path: sourceOf(given, variable), message: result.issues[0].message });
  }
  if (env["NODE_ENV"] === "production") {
    for (const name of ["API_TOKENS", "ENCRYPTION_KEYS"])
      if (!env[name]?.trim()) errors.push({ path: name, message: "must be set when NODE_ENV=production" });
    for (const name of SECRET_SETTINGS.map((setting) => variableOf(env, setting)))
      if (isExample(env, name))
        errors.push({ path: sourceOf(given, name), message: "must not be the published example's" });
    for (const name of ["API_TOKENS", "METRICS_TOKENS"])
      if (tokensIn(config[name]).some((token) => token.length < MIN_TOKEN_LENGTH))
        errors.push({ path: sourceOf(given, name), message: TOO_SHORT });
  }
  if (tokensIn(config["METRICS_TOKENS"]).some((token) => tokensIn(config["API_TOKENS"]).includes(token)))
    errors.push({ path: "METRICS_TOKENS", message: "must not have a token of API_TOKENS, which may do everything" });
  const requireWith = (one: string, other: string, message: string) => {
    if (env[one]?.trim() && !env[other]?.trim()) errors.push({ path: other, message });
  };
  if (env["NODE_ENV"] !== "production") {
    const message = "must be set with REDIS_URL, the same for all nodes (`bun run keys` makes one)";
    requireWith("REDIS_URL", "ENCRYPTION_KEYS", message);
  }
  requireWith("ALARM_URL", "ALARM_SECRET", "must be set with ALARM_URL");
  requireWith("ALARM_MAILBOX", "ALARM_TO", "must be set with ALARM_MAILBOX");
  requireWith("ALARM_TO", "ALARM_MAILBOX", "must be set with ALARM_TO");
  requireWith("RABBITMQ_PASSWORD", "RABBITMQ_LOGIN", "must be set with RABBITMQ_PASSWORD");
  requireWith("RABBITMQ_LOGIN", "RABBITMQ_PASSWORD", "must be set with RABBITMQ_LOGIN");
  if (env["RABBITMQ_URL"]?.trim() && !env["REDIS_URL"]?.trim()) {
    const why = "needs REDIS_URL too: workers on other machines cannot read the embedded store";
    errors.push({ path: "RABBITMQ_URL", message: why });
  }
  if (errors.length > 0) {
    const list = errors.map((e) => `${e.path} ${e.message}`).join("; ");
    throw new Problem("config", `These settings are not valid: ${list}`, { retry: "never", errors });
  }
  // The schema of its own name parsed each entry above.
  const parsed = config as Config;
  const withoutTokens = parsed.API_TOKENS.length === 0;
  return Object.freeze({
    ...parsed,
    HOST: withoutTokens ? "127.0.0.1" : parsed.HOST || "0.0.0.0",
    REDIS_URL: parsed.REDIS_URL && withCredentials(parsed.REDIS_URL, parsed.REDIS_PASSWORD),
    RABBITMQ_URL: parsed.RABBITMQ_URL.map((url) =>
      withCredentials(url, parsed.RABBITMQ_PASSWORD, parsed.RABBITMQ_LOGIN),
    ),
  });
}
