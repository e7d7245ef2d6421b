/** The configuration: from environment variables to one frozen Config, or one Problem that names all that is wrong. */
import * as v from "valibot";
import { type FieldError, Problem } from "./contract/problem.ts";
import { Secret } from "./contract/secret.ts";
import { SETTINGS } from "./settings.ts";

type Settings = typeof SETTINGS;
export type Config = { readonly [K in keyof Settings]: v.InferOutput<Settings[K]["schema"]> };

/** Marks what is published as an example, such as the key in `compose/.env.example`, and therefore protects nothing. */
const EXAMPLE = "published-example";

/** The URL with this user and password in place of its own, percent-encoded. */
function withLogin(url: Secret, user: string, password: Secret | undefined): Secret {
  if (password === undefined) return url;
  const login = `${encodeURIComponent(user)}:${encodeURIComponent(password.reveal())}@`;
  return new Secret(url.reveal().replace(/^([a-z+]+:\/\/)(?:[^@/]*@)?/, (_, scheme: string) => scheme + login));
}

/**
 * Reads the settings from an environment. Throws one `config` Problem that names every wrong variable; values of secrets are
 * never part of it.
 */
export function readConfig(env: Record<string, string | undefined>): Config {
  const errors: FieldError[] = [];
  const config: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(SETTINGS)) {
    const result = v.safeParse(setting.schema, env[name]?.trim() || setting.default);
    if (result.success) config[name] = result.output;
    else errors.push({ path: name, message: result.issues[0].message });
  }
  if (env["NODE_ENV"] === "production") {
    for (const name of ["API_TOKENS", "ENCRYPTION_KEYS"]) {
      if (!env[name]?.trim()) errors.push({ path: name, message: "must be set when NODE_ENV=production" });
      else if (env[name].includes(EXAMPLE)) errors.push({ path: name, message: "must not be the published example's" });
    }
  }
  const needs = (one: string, other: string, message: string) => {
    if (env[one]?.trim() && !env[other]?.trim()) errors.push({ path: other, message });
  };
  if (env["NODE_ENV"] !== "production") {
    const same = "must be set with REDIS_URL, the same for all nodes (`bun run keys` makes one)";
    needs("REDIS_URL", "ENCRYPTION_KEYS", same);
  }
  needs("RABBITMQ_PASSWORD", "RABBITMQ_LOGIN", "must be set with RABBITMQ_PASSWORD");
  if (env["RABBITMQ_URL"]?.trim() && !env["REDIS_URL"]?.trim()) {
    const why = "needs REDIS_URL too: workers on other machines cannot read the embedded store";
    errors.push({ path: "RABBITMQ_URL", message: why });
  }
  if (errors.length > 0) {
    const list = errors.map((e) => `${e.path} ${e.message}`).join("; ");
    throw new Problem("config", `These settings are not valid: ${list}`, { retry: "never", errors });
  }
  // Each entry was parsed by the schema of its own name just above.
  const parsed = config as Config;
  const open = parsed.API_TOKENS.length === 0;
  return Object.freeze({
    ...parsed,
    HOST: open ? "127.0.0.1" : parsed.HOST || "0.0.0.0",
    REDIS_URL: parsed.REDIS_URL && withLogin(parsed.REDIS_URL, "", parsed.REDIS_PASSWORD),
    RABBITMQ_URL: parsed.RABBITMQ_URL.map((url) => withLogin(url, parsed.RABBITMQ_LOGIN, parsed.RABBITMQ_PASSWORD)),
  });
}
