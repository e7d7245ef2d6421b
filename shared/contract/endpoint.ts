/** Where the messages of a mailbox go, and in which form. */
import * as v from "valibot";
import { Split } from "./picking.ts";
import type { Secret } from "./secret.ts";
import { bracketUrl } from "./url.ts";

export const HttpUrl = v.pipe(
  v.string(),
  v.maxLength(2048),
  v.regex(/^https?:\/\/[^/?#\s]/i, "must be an absolute URL that begins with http:// or https://"),
  v.transform(bracketUrl),
  v.url("must be an absolute URL"),
);
export const UrlWithoutLogin = v.pipe(
  HttpUrl,
  v.regex(/^[^/]*\/\/[^/?#@]+([/?#]|$)/, "must not hold a login: it is a secret and belongs in auth"),
);

const opaqueText = v.optional(v.pipe(v.string(), v.maxLength(8192)), "");

/**
 * What a CRM of the Creatio family gave with a mailbox. Callbacks return it exactly as it came. `subscribed` is false
 * for a mailbox that the CRM asked to load mail from before it subscribed to it.
 */
const Creatio = v.strictObject({
  user: opaqueText,
  timeZone: opaqueText,
  workspace: opaqueText,
  context: opaqueText,
  features: v.optional(v.record(v.string(), v.boolean()), () => ({})),
  subscribed: v.optional(v.boolean(), true),
});

/** What names an endpoint: its URL without login, query and fragment. A query may hold a key. */
export function endpointOf(address: string): string {
  const url = URL.parse(address);
  return url ? url.origin + url.pathname : address;
}

type Login<S> = { user: string; password: S };

/** A URL without its login, and the login, if it has one. */
export function splitLogin(address: string): { url: string; login?: Login<string> } {
  const url = new URL(address);
  if (url.username === "" && url.password === "") return { url: address };
  const login = { user: decode(url.username), password: decode(url.password) };
  [url.username, url.password] = ["", ""];
  return { url: url.href, login };
}

/** The reverse: the URL to send to. It must be neither shown nor stored. */
export function urlWithLogin({ url: address, auth }: { url: string; auth?: Login<Secret> | undefined }): string {
  if (!auth) return address;
  const url = new URL(address);
  [url.username, url.password] = [encodeURIComponent(auth.user), encodeURIComponent(auth.password.reveal())];
  return url.href;
}

/** A percent sign that encodes nothing stays as it is. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The endpoint of a mailbox. `toSecret` makes a secret of a text, for a login in the URL. */
export function deliverSchema<S extends v.GenericSchema<string | Secret, string | Secret>>(
  secret: S,
  toSecret: (text: string) => v.InferOutput<S>,
) {
  const Deliver = v.strictObject({
    url: HttpUrl,
    /** The login at the endpoint by HTTP Basic. A login in the URL is moved here, because this one is encrypted. */
    auth: v.optional(v.strictObject({ user: v.pipe(v.string(), v.maxLength(320)), password: secret })),
    dialect: v.optional(v.picklist(["webhook", "creatio"]), "webhook"),
    creatio: v.optional(Creatio),
    secret: v.optional(secret),
    format: v.optional(v.picklist(["full", "headers", "raw"]), "full"),
    maxAttachmentBytes: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(268435456)), 26214400),
    split: v.optional(Split),
  });
  return v.pipe(
    Deliver,
    v.transform((given) => {
      if (given.url === undefined) return given;
      const { url, login } = splitLogin(given.url);
      return login ? { ...given, url, auth: { user: login.user, password: toSecret(login.password) } } : given;
    }),
  );
}

/** What a test message to an endpoint found. `ms` is the time until the answer. */
export const TestPostReport = v.object({
  ok: v.boolean(),
  id: v.pipe(v.string(), v.description("The `webhook-id` of the message.")),
  status: v.pipe(v.nullable(v.number()), v.description("null if there was no answer.")),
  ms: v.number(),
  reason: v.nullable(v.string()),
  words: v.pipe(v.nullable(v.string()), v.description("The first words of a refusal. Never with EGRESS_PRIVATE=deny.")),
});
export type TestPostReport = v.InferOutput<typeof TestPostReport>;
