/** A mailbox: what a client registers, what the service keeps, and what it answers. */
import * as v from "valibot";
import { Filters, Poll, Split } from "./picking.ts";
import type { ProblemView } from "./problem.ts";
import { Secret } from "./secret.ts";

const text = (max: number) =>
  v.pipe(
    v.string(),
    v.minLength(1, "must not be empty"),
    v.maxLength(max),
    v.regex(/^[^\r\n\0]*$/, "must not contain line breaks or NUL"),
  );

/** The client's own id for a mailbox, or a generated UUID. */
export const MailboxId = v.pipe(
  v.string(),
  v.minLength(1),
  v.maxLength(128),
  v.regex(/^[A-Za-z0-9._-]+$/, "may use A-Z a-z 0-9 . _ - only"),
);

const Host = v.pipe(
  text(253),
  v.regex(
    /^(\[?[0-9a-fA-F:.]+\]?|[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?)$/,
    "must be a host name or an IP address, without scheme, port or path",
  ),
);
const Port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535));
const HttpUrl = v.pipe(
  v.string(),
  v.maxLength(2048),
  v.url("must be an absolute URL"),
  v.regex(/^https?:\/\//i, "must begin with http:// or https://"),
);
const Tls = v.picklist(["implicit", "starttls", "none"]);
const Pem = v.pipe(v.string(), v.maxLength(65536), v.regex(/-----BEGIN CERTIFICATE-----/, "must be a PEM certificate"));
const Fingerprint = v.pipe(
  v.string(),
  v.regex(
    /^sha256\/([0-9a-fA-F:]{64,95}|[A-Za-z0-9+/]{43}=)$/,
    "must be sha256/ and the certificate's SHA-256 in hex or base64",
  ),
);
/** An IMAP keyword (RFC 9051 section 2.3.2), or the label of that name. */
const Keyword = v.pipe(v.string(), v.regex(/^[A-Za-z0-9$_.-]{1,64}$/, "may use A-Z a-z 0-9 $ _ . - only"));
const When = v.pipe(v.string(), v.isoTimestamp("must be an ISO 8601 date and time, such as 2026-01-31T00:00:00Z"));
const Day = v.pipe(v.string(), v.isoDate());

const opaque = v.optional(v.pipe(v.string(), v.maxLength(8192)), "");

/**
 * What a CRM of the Creatio family gave with a mailbox and wants to hear again in callbacks, exactly as it came. `subscribed` is
 * false for a mailbox that it asked to load from without having subscribed to it (yet).
 */
const Creatio = v.strictObject({
  user: opaque,
  timeZone: opaque,
  workspace: opaque,
  context: opaque,
  features: v.optional(v.record(v.string(), v.boolean()), () => ({})),
  subscribed: v.optional(v.boolean(), true),
});

/** The grammar of a mailbox, over the type of its secrets: plain strings on the wire, `Secret` inside the service. */
function mailboxEntries<S extends v.GenericSchema>(secret: S) {
  const user = text(320);
  const OAuth2 = v.strictObject({
    tokenUrl: HttpUrl,
    clientId: text(512),
    clientSecret: v.optional(secret),
    /** Instead of a client secret: the client signs its requests (RFC 7523) with this key, whose certificate the provider knows. */
    certificate: v.optional(Pem),
    privateKey: v.optional(secret),
    refreshToken: v.optional(secret),
    scope: v.optional(text(2048)),
  });
  const Auth = v.union(
    [
      v.strictObject({ user, password: secret }),
      v.strictObject({ user, accessToken: secret }),
      v.strictObject({ user, oauth2: OAuth2 }),
    ],
    "must be { user, password }, { user, accessToken } or { user, oauth2 }",
  );
  const trusted = { ca: v.optional(Pem), fingerprint: v.optional(Fingerprint) };
  const reached = { host: Host, port: v.optional(Port), tls: v.optional(Tls, "implicit"), ...trusted, auth: Auth };
  const picked = {
    since: v.optional(v.union([v.literal("now"), When, Day], 'must be "now" or an ISO 8601 date'), "now"),
    poll: v.optional(Poll, () => ({ everySeconds: 60 })),
    /** A run that takes longer than its interval is finished, and the runs that fell due meanwhile become one. */
    processLock: v.optional(v.boolean(), false),
    filters: v.optional(Filters),
  };
  const Later = v.strictObject({ deleteAfterDays: v.pipe(v.number(), v.minValue(0), v.maxValue(3650)) });
  const foldered = {
    folders: v.optional(
      v.union(
        [v.literal("all"), v.pipe(v.array(text(1024)), v.minLength(1), v.maxLength(200))],
        'must be "all" or a list of folder names',
      ),
      () => ["INBOX"],
    ),
    mode: v.optional(v.picklist(["push", "poll"]), "push"),
    /** Without a word: leave with push, markRead with poll. A keyword is a category on Exchange. */
    afterDelivery: v.optional(
      v.union(
        [
          v.picklist(["leave", "markRead", "delete"]),
          v.strictObject({ move: text(1024) }),
          v.strictObject({ keyword: Keyword }),
          Later,
        ],
        "must be leave, markRead, delete, { move: folder }, { keyword: word } or { deleteAfterDays: days }",
      ),
    ),
  };
  const Imap = v.strictObject({ protocol: v.literal("imap"), ...reached, ...picked, ...foldered });
  const Ews = v.strictObject({
    protocol: v.literal("ews"),
    /** The server, reached at https://host/EWS/Exchange.asmx. Without host and url it is found by autodiscover. */
    host: v.optional(Host),
    port: v.optional(Port),
    tls: v.optional(v.picklist(["implicit", "none"], "must be implicit or none"), "implicit"),
    /** The whole address of the service, where it is not the usual one. */
    url: v.optional(
      v.pipe(HttpUrl, v.regex(/^[^/]*\/\/[^/?#@]+([/?#]|$)/, "must not hold a login; it belongs in auth")),
    ),
    /** A regular expression: redirects of autodiscover to other hosts are followed to URLs that match it. */
    redirects: v.optional(text(1024)),
    ...trusted,
    auth: Auth,
    /** How a password is shown; without a word as the server asks for it, NTLM first. */
    scheme: v.optional(v.picklist(["basic", "ntlm"])),
    /** own: the login's mailbox; delegate: `address`, to which the login was given access; impersonate: act as `address`. */
    access: v.optional(v.picklist(["own", "delegate", "impersonate"]), "own"),
    ...picked,
    ...foldered,
  });
  const Pop3 = v.strictObject({
    protocol: v.literal("pop3"),
    ...reached,
    ...picked,
    /** True demands APOP, false never uses it; else it is used where TLS is not and the server offers it. */
    apop: v.optional(v.boolean()),
    mode: v.optional(v.literal("poll", "must be poll: POP3 knows no push"), "poll"),
    afterDelivery: v.optional(
      v.union([v.picklist(["leave", "delete"]), Later], "must be leave, delete or { deleteAfterDays: days }"),
    ),
  });
  const Receive = v.variant("protocol", [Imap, Pop3, Ews]);
  const Deliver = v.strictObject({
    url: HttpUrl,
    dialect: v.optional(v.picklist(["webhook", "creatio"]), "webhook"),
    creatio: v.optional(Creatio),
    secret: v.optional(secret),
    format: v.optional(v.picklist(["full", "headers", "raw"]), "full"),
    maxAttachmentBytes: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(268435456)), 26214400),
    split: v.optional(Split),
  });
  const Address = v.pipe(text(320), v.regex(/^[^\s@<>()",;:]+@[^\s@<>()",;:]+$/, "must be an e-mail address"));
  const Send = v.strictObject({
    /** Without a word ews for a mailbox received by ews, whose server and login it then uses; smtp for any other. */
    protocol: v.optional(v.picklist(["smtp", "ews"], "must be smtp or ews")),
    /** Without a host it is that of the provider, or smtp.X for a mailbox received from imap.X. */
    host: v.optional(Host),
    port: v.optional(Port),
    tls: v.optional(Tls),
    ca: v.optional(Pem),
    fingerprint: v.optional(Fingerprint),
    /** The login of `receive` when absent. */
    auth: v.optional(Auth),
    /** Addresses beside the mailbox's own that it may send under. */
    from: v.optional(v.pipe(v.array(Address), v.maxLength(100))),
    ratePerMinute: v.optional(v.pipe(v.number(), v.minValue(1), v.maxValue(10000))),
    perHour: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(100000)), 500),
    /** To its server at once, from each process; 2 when absent. Providers refuse more than a few, a relay of one's own gains by them. */
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
  return {
    address: Address,
    name: v.optional(text(256)),
    receive: Receive,
    send: v.optional(Send),
    deliver: Deliver,
  };
}

const wireSecret = v.pipe(v.string(), v.minLength(1, "must not be empty"), v.maxLength(16384));

/** The body of POST and PUT: everything a mailbox needs, secrets in clear (so only over TLS or loopback). */
export const MailboxInput = v.strictObject({ id: v.optional(MailboxId), ...mailboxEntries(wireSecret) });
export type MailboxInput = v.InferOutput<typeof MailboxInput>;

/** A registered mailbox inside the service; its secrets cannot be printed. `revision` grows with every change. */
export const Mailbox = v.object({
  id: MailboxId,
  ...mailboxEntries(v.instance(Secret)),
  paused: v.boolean(),
  /** A disabled endpoint answered 410: nothing is posted until `deliver` changes. */
  endpointGone: v.boolean(),
  /** How the mailbox is doing, as its endpoint last heard; only for dialects that tell it. */
  told: v.exactOptional(v.string()),
  revision: v.pipe(v.number(), v.integer()),
  createdAt: v.string(),
  updatedAt: v.string(),
});
export type Mailbox = v.InferOutput<typeof Mailbox>;
export type Receive = Mailbox["receive"];
export type Send = NonNullable<Mailbox["send"]>;
export type Auth = Receive["auth"];
export type Protocol = Receive["protocol"];
/** A mailbox that is received by this protocol. */
export type MailboxOf<P extends Protocol> = Mailbox & { receive: Extract<Receive, { protocol: P }> };
export type AfterDelivery = NonNullable<Receive["afterDelivery"]>;
/** What may be done with a message on the server once it was accepted. */
export type Tidying = Exclude<AfterDelivery, "leave">;

/** Where secrets live in a mailbox. Whoever seals, opens or leaves out secrets walks this table. */
export const SECRET_PATHS = [
  ["receive", "auth", "password"],
  ["receive", "auth", "accessToken"],
  ["receive", "auth", "oauth2", "clientSecret"],
  ["receive", "auth", "oauth2", "privateKey"],
  ["receive", "auth", "oauth2", "refreshToken"],
  ["send", "auth", "password"],
  ["send", "auth", "accessToken"],
  ["send", "auth", "oauth2", "clientSecret"],
  ["send", "auth", "oauth2", "privateKey"],
  ["send", "auth", "oauth2", "refreshToken"],
  ["send", "dkim", "privateKey"],
  ["deliver", "secret"],
] as const;

/** How a mailbox is doing, as its subscription last said. */
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

/** The state shown with a mailbox. Dates are ISO 8601 UTC. `failedLogins` counts since the last success or change. */
export type MailboxState = {
  status: MailboxStatus;
  since: string;
  node: string | null;
  lastVerifiedAt: string | null;
  lastArrivalAt: string | null;
  failedLogins: number;
  problem: ProblemView | null;
};
