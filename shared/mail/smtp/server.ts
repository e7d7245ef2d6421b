/** Where a mailbox sends: the server it names, its provider's, or the likely neighbour of the receiving one. */
import type { Auth, Mailbox } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";

/** `savesItself`: the provider puts what is sent into the Sent folder. */
export type SmtpPlace = {
  host: string;
  port: number;
  tls: "implicit" | "starttls" | "none";
  ca?: string | undefined;
  fingerprint?: string | undefined;
  auth: Auth;
  savesItself: boolean;
};

type Provider = {
  receives: RegExp;
  host: string;
  tls: "implicit" | "starttls";
  savesItself?: true;
  ratePerMinute?: number;
};

/** Providers whose sending host cannot be told from the receiving one, or that do more than send (their own help pages). */
const PROVIDERS: Provider[] = [
  { receives: /^imap\.(gmail|googlemail)\.com$/, host: "smtp.gmail.com", tls: "implicit", savesItself: true },
  {
    receives: /^(outlook|imap)\.office365\.com$/,
    host: "smtp.office365.com",
    tls: "starttls",
    savesItself: true,
    ratePerMinute: 30,
  },
  {
    receives: /^imap-mail\.outlook\.com$/,
    host: "smtp-mail.outlook.com",
    tls: "starttls",
    savesItself: true,
    ratePerMinute: 30,
  },
  { receives: /^imap\.mail\.yahoo\.com$/, host: "smtp.mail.yahoo.com", tls: "implicit" },
  { receives: /^imap\.mail\.me\.com$/, host: "smtp.mail.me.com", tls: "starttls" },
  { receives: /^imap\.gmx\.(net|com)$/, host: "mail.gmx.net", tls: "implicit" },
  { receives: /^imap\.1und1\.de$/, host: "smtp.1und1.de", tls: "implicit" },
  { receives: /^mail\.privateemail\.com$/, host: "mail.privateemail.com", tls: "implicit" },
];

/** 465 with TLS from the first byte, 587 otherwise (RFC 8314 section 3.3, RFC 6409). */
const PORTS = { implicit: 465, starttls: 587, none: 587 };

/**
 * The place a mailbox sends through. Without a `send.host` it is the provider's; for an unknown one imap.X (or pop.X, mail.X) leads to
 * smtp.X (mail.X), a guess that a preflight proves. Throws `no_sending` where there is nothing to go by.
 */
export function smtpPlace({ send, receive }: Mailbox): SmtpPlace {
  if (!send) throw new Problem("no_sending", "The mailbox has no `send`", { retry: "never" });
  const receiving = receivingHost(receive);
  const host = send.host ?? providerOf(receiving)?.host ?? neighbour(receiving);
  if (host === undefined)
    throw new Problem("no_sending", "The host to send through cannot be told from the receiving one", {
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
    auth: send.auth ?? receive.auth,
    savesItself: provider?.savesItself ?? false,
  };
}

/** Messages a minute: as the mailbox says, else as its provider allows, null where nobody set a pace. */
export function paceOf({ send, receive }: Mailbox): number | null {
  const host = send?.host?.toLowerCase();
  const provider = host === undefined ? providerOf(receivingHost(receive)) : PROVIDERS.find((one) => one.host === host);
  return send?.ratePerMinute ?? provider?.ratePerMinute ?? null;
}

/** Empty for an Exchange mailbox that is found by autodiscover, or by its whole URL: nothing is told by that. */
function receivingHost({ host = "" }: Mailbox["receive"]): string {
  return host.toLowerCase().replace(/\.$/, "");
}

function providerOf(receiving: string): Provider | undefined {
  return PROVIDERS.find((one) => one.receives.test(receiving));
}

function neighbour(receiving: string): string | undefined {
  if (/^(imap|imaps|pop|pop3)\./.test(receiving)) return receiving.replace(/^[^.]+/, "smtp");
  return /^(mail|mx|smtp)\./.test(receiving) ? receiving : undefined;
}
