/** A mailbox: what a client registers, what the service stores, and what the API returns. */
import * as v from "valibot";
import { deliverSchema, HttpUrl, splitLogin, UrlWithoutLogin } from "./endpoint.ts";
import { Address, Host, Port, text, Tls, tlsTrust } from "./fields.ts";
import { clientEntries, graphEntries } from "./graph.ts";
import { learnedEntries } from "./learned.ts";
import { Filters, PollSchedule } from "./picking.ts";
import type { ProblemView } from "./problem.ts";
import { Secret } from "./secret.ts";

/** The client's own id for a mailbox, or a generated UUID. */
export const MailboxId = v.pipe(
  v.string(),
  v.minLength(1),
  v.maxLength(128),
  v.regex(/^[A-Za-z0-9._-]+$/, "may use A-Z a-z 0-9 . _ - only"),
);

/** An IMAP keyword (RFC 9051 section 2.3.2), or a Gmail label of that name. */
const Keyword = v.pipe(v.string(), v.regex(/^[A-Za-z0-9$_.-]{1,64}$/, "may use A-Z a-z 0-9 $ _ . - only"));
const Timestamp = v.pipe(v.string(), v.isoTimestamp("must be an ISO 8601 date and time, such as 2026-01-31T00:00:00Z"));
const Day = v.pipe(v.string(), v.isoDate());

/** Which messages are received, and when a polled mailbox is polled. */
const selection = {
  since: v.optional(v.union([v.literal("now"), Timestamp, Day], 'must be "now" or an ISO 8601 date'), "now"),
  poll: v.optional(PollSchedule, () => ({ everySeconds: 60 })),
  /** A run that takes longer than its interval is finished, and the runs that were due meanwhile become one. */
  processLock: v.optional(v.boolean(), false),
  filters: v.optional(Filters),
};
const DeleteLater = v.strictObject({ deleteAfterDays: v.pipe(v.number(), v.minValue(0), v.maxValue(3650)) });
/** Settings of the protocols that have folders. */
const folderSettings = {
  folders: v.optional(
    v.union(
      [v.literal("all"), v.pipe(v.array(text(1024)), v.minLength(1), v.maxLength(200))],
      'must be "all" or a list of folder names',
    ),
    () => ["INBOX"],
  ),
  mode: v.optional(v.picklist(["push", "poll"]), "push"),
  /** When absent: leave with push, markRead with poll. On Exchange a keyword is a category. */
  afterDelivery: v.optional(
    v.union(
      [
        v.picklist(["leave", "markRead", "delete"]),
        v.strictObject({ move: text(1024) }),
        v.strictObject({ keyword: Keyword }),
        DeleteLater,
      ],
      "must be leave, markRead, delete, { move: folder }, { keyword: word } or { deleteAfterDays: days }",
    ),
  ),
};

type TokenUrlSchema = typeof HttpUrl | typeof UrlWithoutLogin;
type SecretForms<S extends v.GenericSchema> = {
  /** Makes a secret of a text, for a login in a URL. */
  toSecret: (password: string) => v.InferOutput<S>;
  TokenUrl: TokenUrlSchema;
};

function authSchema<S extends v.GenericSchema>(secret: S, { toSecret, TokenUrl }: SecretForms<S>) {
  const user = text(320);
  const Settings = v.strictObject({ tokenUrl: TokenUrl, ...clientEntries(secret) });
  // The password in a URL is the client's secret (RFC 6749 section 2.3.1).
  const OAuth2 = v.pipe(
    Settings,
    v.transform((given) => {
      if (given.tokenUrl === undefined) return given;
      const { url, login } = splitLogin(given.tokenUrl);
      if (!login) return given;
      const provesItself = given.clientSecret !== undefined || given.privateKey !== undefined;
      return { ...given, tokenUrl: url, ...(!provesItself && { clientSecret: toSecret(login.password) }) };
    }),
  );
  return v.union(
    [
      v.strictObject({ user, password: secret }),
      v.strictObject({ user, accessToken: secret }),
      v.strictObject({ user, oauth2: OAuth2 }),
    ],
    "must be { user, password }, { user, accessToken } or { user, oauth2 }",
  );
}

function receiveSchema<S extends v.GenericSchema, A extends v.GenericSchema>(
  secret: S,
  TokenUrl: TokenUrlSchema,
  auth: A,
) {
  const connection = { host: Host, port: v.optional(Port), tls: v.optional(Tls, "implicit"), ...tlsTrust, auth };
  const Imap = v.strictObject({ protocol: v.literal("imap"), ...connection, ...selection, ...folderSettings });
  const Pop3 = v.strictObject({
    protocol: v.literal("pop3"),
    ...connection,
    ...selection,
    /**
     * True requires APOP, false never uses it. When absent, APOP is used if the server offers it and there is no TLS.
     */
    apop: v.optional(v.boolean()),
    mode: v.optional(v.literal("poll", "must be poll: POP3 has no push"), "poll"),
    afterDelivery: v.optional(
      v.union([v.picklist(["leave", "delete"]), DeleteLater], "must be leave, delete or { deleteAfterDays: days }"),
    ),
  });
  const Graph = v.strictObject({
    protocol: v.literal("graph"),
    ...graphEntries(secret, TokenUrl),
    ...selection,
    ...folderSettings,
  });
  return v.variant("protocol", [Imap, Pop3, ewsSchema(auth), Graph]);
}

function ewsSchema<A extends v.GenericSchema>(auth: A) {
  return v.strictObject({
    protocol: v.literal("ews"),
    /** The server, reached at https://host/EWS/Exchange.asmx. Without host and url, autodiscover finds it. */
    host: v.optional(Host),
    port: v.optional(Port),
    tls: v.optional(v.picklist(["implicit", "none"], "must be implicit or none"), "implicit"),
    /** The whole URL of the service, if it is not the usual one. */
    url: v.optional(UrlWithoutLogin),
    /** A regular expression. Autodiscover follows redirects to other hosts only if the URL matches it. */
    redirects: v.optional(text(1024)),
    ...tlsTrust,
    auth,
    /** The authentication scheme for a password. When absent, the one that the server asks for, NTLM first. */
    scheme: v.optional(v.picklist(["basic", "ntlm"])),
    /**
     * own: the login's own mailbox; delegate: the login has access to `address`; impersonate: the login acts as
     * `address`.
     */
    access: v.optional(v.picklist(["own", "delegate", "impersonate"]), "own"),
    ...selection,
    ...folderSettings,
  });
}

function sendSchema<S extends v.GenericSchema, A extends v.GenericSchema>(secret: S, auth: A) {
  return v.strictObject({
    /** When absent: ews or graph for a mailbox that is received by it (with its server and login), smtp for any other. */
    protocol: v.optional(v.picklist(["smtp", "ews", "graph"], "must be smtp, ews or graph")),
    /** When absent: the host of the provider, or smtp.X for a mailbox that is received from imap.X. */
    host: v.optional(Host),
    port: v.optional(Port),
    tls: v.optional(Tls),
    ...tlsTrust,
    /** When absent: the login of `receive`. */
    auth: v.optional(auth),
    /** Further addresses that the mailbox may send from. */
    from: v.optional(v.pipe(v.array(Address), v.maxLength(100))),
    ratePerMinute: v.optional(v.pipe(v.number(), v.minValue(1), v.maxValue(10000))),
    perHour: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(100000)), 500),
    /**
     * Connections to its server at once, from each process; 2 when absent. Providers refuse more than a few. A relay of
     * your own becomes faster with more.
     */
    connections: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(20))),
    saveSent: v.optional(v.picklist(["auto", "always", "never"]), "auto"),
    notify: v.optional(v.boolean(), false),
    allowSelf: v.optional(v.boolean(), false),
    dkim: v.optional(
      v.strictObject({
        domain: v.pipe(text(253), v.regex(/^[A-Za-z0-9.-]+$/, "must be a domain")),
        selector: v.pipe(text(63), v.regex(/^[A-Za-z0-9._-]+$/, "must be a DKIM selector")),
        privateKey: secret,
      }),
    ),
  });
}

/** The entries of a mailbox, for one type of its secrets: plain strings on the wire, `Secret` inside the service. */
function mailboxEntries<S extends v.GenericSchema<string | Secret, string | Secret>>(secret: S, forms: SecretForms<S>) {
  const auth = authSchema(secret, forms);
  return {
    address: Address,
    name: v.optional(text(256)),
    receive: receiveSchema(secret, forms.TokenUrl, auth),
    send: v.optional(sendSchema(secret, auth)),
    deliver: deliverSchema(secret, forms.toSecret),
  };
}

const wireSecret = v.pipe(v.string(), v.minLength(1, "must not be empty"), v.maxLength(16384));

/** The body of POST and PUT: everything a mailbox needs, with secrets in clear (so only over TLS or loopback). */
export const MailboxInput = v.strictObject({
  id: v.optional(MailboxId),
  ...mailboxEntries(wireSecret, { toSecret: (password) => password, TokenUrl: UrlWithoutLogin }),
});
export type MailboxInput = v.InferOutput<typeof MailboxInput>;

// 0.1 stored token URLs with logins. They are taken apart when they are read.
const storedEntries = mailboxEntries(v.instance(Secret), {
  toSecret: (password) => new Secret(password),
  TokenUrl: HttpUrl,
});

const OldSecret = v.object({ secret: v.instance(Secret), until: v.string() });

/** A registered mailbox inside the service. Its secrets cannot be printed. `revision` grows with every change. */
export const Mailbox = v.object({
  id: MailboxId,
  ...storedEntries,
  /** How the mailbox was received before it moved to Graph, so that it can go back. */
  former: v.exactOptional(v.object({ receive: storedEntries.receive })),
  /** Webhook secrets that were replaced. Each signs beside the new one until its time. */
  oldSecrets: v.exactOptional(v.object({ last: OldSecret, earlier: v.exactOptional(OldSecret) })),
  paused: v.boolean(),
  /** The endpoint answered 410. Nothing is posted until `deliver` changes. */
  endpointGone: v.boolean(),
  ...learnedEntries,
  revision: v.pipe(v.number(), v.integer()),
  createdAt: v.string(),
  updatedAt: v.string(),
});
export type Mailbox = v.InferOutput<typeof Mailbox>;
export type Receive = Mailbox["receive"];
export type Send = NonNullable<Mailbox["send"]>;
/** A login of any protocol. */
export type Auth = Receive["auth"];
/** A login that names its user. A mailbox by Graph has none: its token says who asks. */
export type UserAuth = Extract<Auth, { user: string }>;
export type Protocol = Receive["protocol"];
/** A mailbox that is received by this protocol. */
export type MailboxOf<P extends Protocol> = Mailbox & { receive: Extract<Receive, { protocol: P }> };
export type AfterDelivery = NonNullable<Receive["afterDelivery"]>;
/** What may be done with a message on the server after its delivery. */
export type AfterDeliveryAction = Exclude<AfterDelivery, "leave">;

/** Where secrets are in a mailbox. Code that encrypts, decrypts or leaves out secrets uses this table. */
export const SECRET_PATHS = [
  ["receive", "auth", "password"],
  ["receive", "auth", "accessToken"],
  ["receive", "auth", "oauth2", "clientSecret"],
  ["receive", "auth", "oauth2", "privateKey"],
  ["receive", "auth", "oauth2", "refreshToken"],
  ["former", "receive", "auth", "password"],
  ["former", "receive", "auth", "accessToken"],
  ["former", "receive", "auth", "oauth2", "clientSecret"],
  ["former", "receive", "auth", "oauth2", "privateKey"],
  ["former", "receive", "auth", "oauth2", "refreshToken"],
  ["send", "auth", "password"],
  ["send", "auth", "accessToken"],
  ["send", "auth", "oauth2", "clientSecret"],
  ["send", "auth", "oauth2", "privateKey"],
  ["send", "auth", "oauth2", "refreshToken"],
  ["send", "dkim", "privateKey"],
  ["deliver", "auth", "password"],
  ["deliver", "secret"],
  ["oldSecrets", "last", "secret"],
  ["oldSecrets", "earlier", "secret"],
] as const;

/** The status that the mailbox's subscription reported last. */
export const MailboxStatus = v.picklist([
  "initializing",
  "listening",
  "polling",
  "syncing",
  "throttled",
  "reconnecting",
  "needs_attention",
  "paused",
]);
export type MailboxStatus = v.InferOutput<typeof MailboxStatus>;

/** The statuses of a mailbox whose subscription is connected. They end with its process. */
export const CONNECTED_STATUSES: readonly MailboxStatus[] = ["listening", "polling", "syncing"];

/**
 * The state of a mailbox as the API shows it. Dates are ISO 8601 UTC. `failedLogins` counts since the last success or
 * change.
 */
export type MailboxState = {
  status: MailboxStatus;
  since: string;
  node: string | null;
  lastVerifiedAt: string | null;
  lastArrivalAt: string | null;
  failedLogins: number;
  problem: ProblemView | null;
};
