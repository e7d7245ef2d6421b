/** What the service finds out about the mail servers of an address before anybody types a password. */
import * as v from "valibot";
import { Address } from "../../contract/fields.ts";

const described = <S extends v.GenericSchema>(schema: S, about: string) => v.pipe(schema, v.description(about));

export const DiscoverInput = v.strictObject({
  address: described(Address, "The mail address of the mailbox. No password: none is needed to find the servers."),
});

const DISCOVERY_STEPS = ["known", "mx", "autoconfig", "srv", "exchange"] as const;
const source = v.picklist(DISCOVERY_STEPS);

const Step = v.object({
  name: described(
    source,
    "Where the service looked: its list of providers (`known`), the domain's mail exchangers (`mx`), its Mozilla autoconfig file (`autoconfig`), its SRV records (`srv`, RFC 6186 and RFC 8314), Exchange's autodiscover without a login (`exchange`).",
  ),
  found: described(v.boolean(), "True if this place names servers that the service may connect to."),
  ms: described(v.number(), "How long it took, in milliseconds."),
  detail: described(v.string(), "What was asked, and what was answered."),
});
export type DiscoveryStep = v.InferOutput<typeof Step>;

const Server = {
  host: described(v.string(), "The host name."),
  port: described(v.number(), "The port."),
  tls: described(
    v.picklist(["implicit", "starttls"]),
    "How the connection is secured. Servers without TLS are left out.",
  ),
};
const protocolOf = <P extends string>(protocol: P, about: string) => ({
  protocol: described(v.literal(protocol), about),
});

const Receiving = v.variant("protocol", [
  v.object({ ...protocolOf("imap", "The mail is received by IMAP."), ...Server }),
  v.object({ ...protocolOf("pop3", "The mail is received by POP3: the domain names no IMAP server."), ...Server }),
  v.object(protocolOf("ews", "The mail is on an Exchange server. Its address is found when the login is known.")),
  v.object(protocolOf("graph", "The mail is in Microsoft 365 or Outlook.com, and is received by Microsoft Graph.")),
]);

const LOGINS = ["oauth2", "app-password", "password"] as const;
/** Providers at which a person agrees by a link. */
const CONSENT_PROVIDERS = ["microsoft", "google"] as const;
export type ConsentProvider = (typeof CONSENT_PROVIDERS)[number];

const proposalEntries = {
  source: described(source, "The step that found it. Whatever is not `known` or `mx` comes from the domain itself."),
  origin: described(v.string(), "Where exactly it stands: a page of the provider, a URL, or the name of a record."),
  provider: described(v.nullable(v.string()), "The name of the provider, if the service knows it."),
  receive: described(Receiving, "What goes into `receive` of the mailbox, beside `auth`."),
  send: described(v.nullable(v.object(Server)), "What goes into `send` of the mailbox. Null if nothing is known."),
  user: described(v.string(), "The name to log in with: `receive.auth.user`."),
  logins: described(
    v.array(v.picklist(LOGINS)),
    "The ways to log in, the best one first. `app-password`: a password that the provider makes for one program.",
  ),
  notes: described(v.array(v.string()), "What the owner of the mailbox has to do first, in plain words."),
};
const Consent = v.object({
  provider: described(v.picklist(CONSENT_PROVIDERS), "The provider that the application must be registered at."),
  applications: described(
    v.array(v.string()),
    "Applications that are registered here for this provider. `POST /api/v1/consents` with one of them makes a link for the owner of the mailbox.",
  ),
});

/** A proposal without what only this installation knows. */
export const Proposal = v.object(proposalEntries);
export type Proposal = v.InferOutput<typeof Proposal>;

export const Discovered = v.object({
  address: described(v.string(), "The address that was asked about."),
  steps: described(v.array(Step), "Each place where the service looked, in the order of trust."),
  proposals: described(
    v.array(
      v.object({
        ...proposalEntries,
        consent: described(
          v.nullable(Consent),
          "How the owner can connect the mailbox without a password. Null where this is not possible.",
        ),
      }),
    ),
    "What was found, the most trustworthy first. Show it to a person before a password is typed.",
  ),
});
export type Discovered = v.InferOutput<typeof Discovered>;
