/**
 * Providers whose servers the service knows. The servers are those of Mozilla's list where it has them
 * (https://github.com/thunderbird/autoconfig, 2026-11). `page` is where the provider documents them.
 */
import type { ConsentProvider, Proposal } from "./proposal.ts";

type Known = Pick<Proposal, "receive" | "send" | "logins" | "notes"> & {
  name: string;
  /** Where the provider documents it. */
  page: string;
  domains: readonly string[];
  /** Ends of the names of its mail exchangers, for domains of customers. */
  exchangers?: readonly string[];
  consent?: ConsentProvider;
};

const imap = (host: string) => ({ protocol: "imap", host, port: 993, tls: "implicit" }) as const;
const smtps = (host: string) => ({ host, port: 465, tls: "implicit" }) as const;
const submission = (host: string) => ({ host, port: 587, tls: "starttls" }) as const;
const APP_PASSWORD = "Make a password for this program in the security settings of the account, and use that one.";
const SWITCH_ON = "Switch IMAP on in the settings of the mailbox first.";

const KNOWN: readonly Known[] = [
  {
    name: "Google",
    page: "https://developers.google.com/workspace/gmail/imap/imap-smtp",
    domains: ["gmail.com", "googlemail.com"],
    exchangers: [".google.com", ".googlemail.com"],
    receive: imap("imap.gmail.com"),
    send: smtps("smtp.gmail.com"),
    logins: ["oauth2", "app-password"],
    notes: [
      "Without OAuth2: switch on 2-Step Verification, then make an app password. The password of the account is refused.",
    ],
    consent: "google",
  },
  {
    name: "Outlook.com",
    page: "https://support.microsoft.com/office/d088b986-291d-42b8-9564-9c414e2aa040",
    domains: [
      "outlook.com",
      "hotmail.com",
      "live.com",
      "msn.com",
      "outlook.at",
      "outlook.de",
      "outlook.es",
      "outlook.fr",
      "outlook.it",
      "hotmail.be",
      "hotmail.co.uk",
      "hotmail.de",
      "hotmail.es",
      "hotmail.fr",
      "hotmail.it",
      "hotmail.nl",
    ],
    receive: { protocol: "graph" },
    send: null,
    logins: ["oauth2"],
    notes: ["Microsoft takes no password from programs. The application must be for personal accounts too."],
    consent: "microsoft",
  },
  {
    name: "Microsoft 365",
    page: "https://learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/deprecation-of-basic-authentication-exchange-online",
    domains: ["onmicrosoft.com"],
    exchangers: [".mail.protection.outlook.com", ".mx.microsoft"],
    receive: { protocol: "graph" },
    send: null,
    logins: ["oauth2"],
    notes: ["Microsoft takes no password from programs."],
    consent: "microsoft",
  },
  {
    name: "Yahoo",
    page: "https://help.yahoo.com/kb/SLN4075.html",
    domains: [
      "yahoo.com",
      "ymail.com",
      "rocketmail.com",
      "yahoo.de",
      "yahoo.co.uk",
      "yahoo.fr",
      "yahoo.it",
      "yahoo.es",
    ],
    exchangers: [".yahoodns.net"],
    receive: imap("imap.mail.yahoo.com"),
    send: smtps("smtp.mail.yahoo.com"),
    logins: ["app-password"],
    notes: [APP_PASSWORD],
  },
  {
    name: "AOL",
    page: "https://help.aol.com/articles/how-do-i-use-other-email-applications-to-send-and-receive-my-aol-mail",
    domains: ["aol.com", "aim.com", "aol.de", "aol.co.uk", "aol.fr"],
    receive: imap("imap.aol.com"),
    send: smtps("smtp.aol.com"),
    logins: ["app-password"],
    notes: [APP_PASSWORD],
  },
  {
    name: "iCloud",
    page: "https://support.apple.com/102525",
    domains: ["icloud.com", "me.com", "mac.com"],
    exchangers: [".mail.icloud.com"],
    receive: imap("imap.mail.me.com"),
    send: submission("smtp.mail.me.com"),
    logins: ["app-password"],
    notes: ["Make an app-specific password in the settings of the Apple Account, and use that one."],
  },
  {
    name: "GMX",
    page: "https://hilfe.gmx.net/pop-imap/imap/imap-serverdaten.html",
    domains: ["gmx.net", "gmx.de", "gmx.at", "gmx.ch", "gmx.eu"],
    receive: imap("imap.gmx.net"),
    send: smtps("mail.gmx.net"),
    logins: ["password"],
    notes: [SWITCH_ON, "With two-factor authentication an application-specific password is needed."],
  },
  {
    name: "GMX",
    page: "https://support.gmx.com/pop-imap/imap/server.html",
    domains: ["gmx.com", "gmx.us", "gmx.co.uk", "gmx.fr", "gmx.es"],
    receive: imap("imap.gmx.com"),
    send: smtps("mail.gmx.com"),
    logins: ["password"],
    notes: [SWITCH_ON],
  },
  {
    name: "WEB.DE",
    page: "https://hilfe.web.de/pop-imap/imap/imap-serverdaten.html",
    domains: ["web.de"],
    receive: imap("imap.web.de"),
    send: submission("smtp.web.de"),
    logins: ["password"],
    notes: [SWITCH_ON, "With two-factor authentication an application-specific password is needed."],
  },
  {
    name: "Telekom",
    page: "https://www.telekom.de/hilfe/apps-dienste/e-mail/einstellungen/posteingang-postausgang-server",
    domains: ["t-online.de", "magenta.de"],
    receive: imap("secureimap.t-online.de"),
    send: smtps("securesmtp.t-online.de"),
    logins: ["password"],
    notes: ["Set a password for mail programs in the customer centre, and use that one."],
  },
  {
    name: "Posteo",
    page: "https://posteo.de/en/help/which-server-settings-do-i-need-imap-pop3-and-smtp",
    domains: ["posteo.de", "posteo.net", "posteo.org", "posteo.eu"],
    receive: imap("posteo.de"),
    send: smtps("posteo.de"),
    logins: ["password"],
    notes: [],
  },
  {
    name: "Fastmail",
    page: "https://www.fastmail.help/hc/en-us/articles/1500000278342",
    domains: ["fastmail.com", "fastmail.fm"],
    exchangers: [".messagingengine.com"],
    receive: imap("imap.fastmail.com"),
    send: smtps("smtp.fastmail.com"),
    logins: ["app-password"],
    notes: [APP_PASSWORD],
  },
  {
    name: "Zoho",
    page: "https://www.zoho.com/mail/help/imap-access.html",
    domains: ["zoho.com", "zohomail.com"],
    receive: imap("imap.zoho.com"),
    send: smtps("smtp.zoho.com"),
    logins: ["password", "app-password"],
    notes: [SWITCH_ON, "With two-factor authentication an application-specific password is needed."],
  },
  {
    name: "Yandex",
    page: "https://yandex.com/support/yandex-360/customers/mail/en/mail-clients/others",
    domains: ["yandex.ru", "yandex.com", "ya.ru", "yandex.by", "yandex.kz"],
    exchangers: ["mx.yandex.net", "mx.yandex.ru"],
    receive: imap("imap.yandex.com"),
    send: smtps("smtp.yandex.com"),
    logins: ["app-password"],
    notes: [SWITCH_ON, APP_PASSWORD],
  },
  {
    name: "Mail.ru",
    page: "https://help.mail.ru/mail/mailer/popsmtp",
    domains: ["mail.ru", "inbox.ru", "list.ru", "bk.ru"],
    exchangers: ["emx.mail.ru"],
    receive: imap("imap.mail.ru"),
    send: smtps("smtp.mail.ru"),
    logins: ["app-password"],
    notes: [APP_PASSWORD],
  },
  {
    name: "IONOS",
    page: "https://www.ionos.com/help/email/general-topics/settings-for-your-email-programs-imap-pop3/",
    domains: ["online.de", "onlinehome.de"],
    exchangers: [".kundenserver.de"],
    receive: imap("imap.1und1.de"),
    send: smtps("smtp.1und1.de"),
    logins: ["password"],
    notes: [],
  },
  {
    name: "Strato",
    page: "https://www.strato.de/faq/mail/externes-e-mail-programm-mit-strato-e-mail-adresse-nutzen/",
    domains: [],
    exchangers: [".rzone.de"],
    receive: imap("imap.strato.de"),
    send: smtps("smtp.strato.de"),
    logins: ["password"],
    notes: [],
  },
];

/** The proposal for a domain of a provider; undefined for any other domain. */
export function findKnownProvider(address: string, domain: string): Proposal | undefined {
  const known = KNOWN.find(({ domains }) => domains.some((one) => one === domain || isTenantOf(one, domain)));
  return known && toProposal(known, address, "known", known.page);
}

/** Microsoft gives each tenant a name below this one. */
function isTenantOf(one: string, domain: string): boolean {
  return one === "onmicrosoft.com" && domain.endsWith(`.${one}`);
}

/** The proposal for a domain whose mail goes to this mail exchanger; undefined if it belongs to no known provider. */
export function findProviderOfExchanger(address: string, exchanger: string): Proposal | undefined {
  const name = exchanger.toLowerCase().replace(/\.$/, "");
  const known = KNOWN.find(({ exchangers = [] }) => exchangers.some((end) => name === end || name.endsWith(end)));
  return known && toProposal(known, address, "mx", `the mail exchanger ${name}; ${known.page}`);
}

function toProposal(known: Known, user: string, source: "known" | "mx", origin: string): Proposal {
  const { name, receive, send, logins, notes } = known;
  return { source, origin, provider: name, receive, send, user, logins: [...logins], notes: [...notes] };
}

const CONSENT_PROVIDERS: ReadonlyMap<string, ConsentProvider> = new Map(
  KNOWN.flatMap(({ name, consent }) => (consent ? [[name, consent]] : [])),
);

/** Where the owner of such a mailbox can agree by a link. Undefined where this is not possible. */
export function consentProviderOf({ provider }: Pick<Proposal, "provider">): ConsentProvider | undefined {
  return provider === null ? undefined : CONSENT_PROVIDERS.get(provider);
}
