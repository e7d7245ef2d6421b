/** The server a mailbox sends through: the one it names, its provider's, or a guess from the receiving host. */
import type { Mailbox, UserAuth } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";

/** `savesToSent`: the provider puts sent mail into the Sent folder. */
export type SmtpServer = {
  host: string;
  port: number;
  tls: "implicit" | "starttls" | "none";
  ca?: string | undefined;
  fingerprint?: string | undefined;
  auth: UserAuth;
  savesToSent: boolean;
};

type Provider = {
  receivingHosts: RegExp;
  host: string;
  tls: "implicit" | "starttls";
  savesToSent?: true;
  ratePerMinute?: number;
};

/**
 * Providers whose sending host does not follow from the receiving one, or that do more than send (from their own help
 * pages).
 */
const PROVIDERS: Provider[] = [
  { receivingHosts: /^imap\.(gmail|googlemail)\.com$/, host: "smtp.gmail.com", tls: "implicit", savesToSent: true },
  {
    receivingHosts: /^(outlook|imap)\.office365\.com$/,
    host: "smtp.office365.com",
    tls: "starttls",
    savesToSent: true,
    ratePerMinute: 30,
  },
  {
    receivingHosts: /^imap-mail\.outlook\.com$/,
    host: "smtp-mail.outlook.com",
    tls: "starttls",
    savesToSent: true,
    ratePerMinute: 30,
  },
  { receivingHosts: /^imap\.mail\.yahoo\.com$/, host: "smtp.mail.yahoo.com", tls: "implicit" },
  { receivingHosts: /^imap\.mail\.me\.com$/, host: "smtp.mail.me.com", tls: "starttls" },
  { receivingHosts: /^imap\.gmx\.(net|com)$/, host: "mail.gmx.net", tls: "implicit" },
  { receivingHosts: /^imap\.1und1\.de$/, host: "smtp.1und1.de", tls: "implicit" },
  { receivingHosts: /^mail\.privateemail\.com$/, host: "mail.privateemail.com", tls: "implicit" },
];

/** 465 with TLS from the first byte, otherwise 587 (RFC 8314 section 3.3, RFC 6409). */
const PORTS = { implicit: 465, starttls: 587, none: 587 };

/**
 * The server a mailbox sends through. Without `send.host` it is the provider's. For an unknown provider, imap.X (or
 * pop.X, mail.X) gives smtp.X (mail.X), a guess that the preflight checks. Throws `no_sending` if there is no host to
 * start from.
 */
export function getSmtpServer({ send, receive }: Mailbox): SmtpServer {
  if (!send) throw new Problem("no_sending", "The mailbox has no `send`", { retry: "never" });
  const receiving = getReceivingHost(receive);
  const host = send.host ?? findProvider(receiving)?.host ?? guessSendingHost(receiving);
  if (host === undefined)
    throw new Problem("no_sending", "The sending host does not follow from the receiving host", {
      retry: "never",
    });
  const auth = send.auth ?? receive.auth;
  if (!("user" in auth))
    throw new Problem("no_sending", "Sending by SMTP needs `send.auth`: it cannot use the login for Graph", {
      retry: "never",
    });
  const provider = PROVIDERS.find((one) => one.host === host.toLowerCase());
  const tls = send.tls ?? (send.port === 587 ? "starttls" : undefined) ?? provider?.tls ?? "implicit";
  return {
    host,
    port: send.port ?? PORTS[tls],
    tls,
    ca: send.ca,
    fingerprint: send.fingerprint,
    auth,
    savesToSent: provider?.savesToSent ?? false,
  };
}

/** Messages a minute: as the mailbox says, else as its provider allows. Null when there is no limit. */
export function getRatePerMinute({ send, receive }: Mailbox): number | null {
  const host = send?.host?.toLowerCase();
  const provider =
    host === undefined ? findProvider(getReceivingHost(receive)) : PROVIDERS.find((one) => one.host === host);
  return send?.ratePerMinute ?? provider?.ratePerMinute ?? null;
}

/**
 * Empty for a mailbox by Graph, and for an Exchange mailbox that autodiscover finds or that has a whole URL. No sending
 * host follows from those.
 */
function getReceivingHost(receive: Mailbox["receive"]): string {
  const host = ("host" in receive ? receive.host : undefined) ?? "";
  return host.toLowerCase().replace(/\.$/, "");
}

function findProvider(receiving: string): Provider | undefined {
  return PROVIDERS.find((one) => one.receivingHosts.test(receiving));
}

function guessSendingHost(receiving: string): string | undefined {
  if (/^(imap|imaps|pop|pop3)\./.test(receiving)) return receiving.replace(/^[^.]+/, "smtp");
  return /^(mail|mx|smtp)\./.test(receiving) ? receiving : undefined;
}
