/** Warnings about environment variables that are no settings but look like ones, and about old names of settings. */
import { nearestName } from "./nearest.ts";
import { RENAMED_SETTINGS, SECRET_SETTINGS, SETTINGS } from "./settings.ts";

type Environment = Record<string, string | undefined>;

/** Nobody else's variables begin with these. Those of RabbitMQ and Redis themselves begin as ours do. */
const OWN_PREFIX = /^(CRM|EGRESS|EMAIL_LISTENER|LISTENERS)_/;
/** From these the Compose files and the manifests set the settings of nearly the same name. */
const SOURCES: Readonly<Record<string, string>> = { API_TOKEN: "API_TOKENS", METRICS_TOKEN: "METRICS_TOKENS" };
/** They name the service for the command line. */
const CLIENT_VARIABLES = ["EMAIL_LISTENER_URL", "EMAIL_LISTENER_TOKEN"];
/** Shorter names are near to many words. */
const MIN_NEAR_LENGTH = 6;
const SETTING_NAMES = Object.keys(SETTINGS);
const KNOWN_NAMES = new Set([
  ...SETTING_NAMES,
  ...SECRET_SETTINGS.map((name) => `${name}_FILE`),
  ...Object.keys(RENAMED_SETTINGS),
  ...CLIENT_VARIABLES,
]);

/** One sentence for each variable with an old or a misspelt name. They never contain a value. */
export function listSettingWarnings(env: Environment): string[] {
  return [...listRenamed(env), ...listUnknown(env)];
}

function listRenamed(env: Environment): string[] {
  return Object.entries(RENAMED_SETTINGS)
    .filter(([old]) => isSet(env, old))
    .map(([old, { name, until }]) => {
      if (isSet(env, name)) return `${old} is ignored, because its new name ${name} is set too; remove ${old}`;
      return `${old} is now called ${name}; the old name works ${until === null ? "too" : `until ${until}`}`;
    });
}

function listUnknown(env: Environment): string[] {
  return Object.keys(env)
    .filter((name) => isSet(env, name) && !KNOWN_NAMES.has(name))
    .flatMap((name) => explainUnknown(env, name) ?? []);
}

function explainUnknown(env: Environment, name: string): string | undefined {
  const [, setting = ""] = /^(.+)_FILE$/.exec(name) ?? [];
  if (setting in SETTINGS) return `${name} is ignored, because only secrets come from files; set ${setting} itself`;
  const near = name.length < MIN_NEAR_LENGTH ? undefined : nearestName(name, SETTING_NAMES);
  const isSource = near !== undefined && SOURCES[name] === near && isSet(env, near);
  if (near !== undefined && !isSource)
    return `${name} is ignored, because there is no such setting; did you mean ${near}?`;
  if (!OWN_PREFIX.test(name)) return undefined;
  return `${name} is ignored, because there is no such setting; docs/settings.md lists them`;
}

/** An empty variable counts as not set. */
function isSet(env: Environment, name: string): boolean {
  return Boolean(env[name]?.trim());
}
