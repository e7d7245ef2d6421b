/** The mailbox that a link connects: what the client gave, completed by the application and by what the provider gave. */
import {
  type Application,
  type GoogleApplication,
  loginOf,
  type MicrosoftApplication,
  tokenUrlOfApplication,
} from "../../shared/contract/application.ts";
import { graphRootOf } from "../../shared/contract/graph.ts";
import { type Mailbox, MailboxInput } from "../../shared/contract/mailbox.ts";
import { Problem } from "../../shared/contract/problem.ts";
import type { Secret } from "../../shared/contract/secret.ts";
import { afterDeliveryOf } from "../../shared/mail/defaults.ts";
import { portOf } from "../../shared/places.ts";
import { invalidField } from "../applications.ts";
import { isRecord } from "../http/field-errors.ts";
import { parseInput } from "../http/route.ts";
import { mailboxFromInput, toWireForm } from "../mailboxes.ts";

/** What the provider gave. `owner` is Graph's id of the user who signed in. */
export type ConsentLogin = { address: string; refreshToken: string; owner?: string | undefined };

type Settings = Record<string, unknown>;

/** The mailbox that these settings describe, with this login. Throws `invalid` naming the field below `mailbox`. */
export function newMailbox(
  application: Application,
  settings: Settings,
  login: ConsentLogin,
): { mailbox: Mailbox; generated?: Secret } {
  checkLeftOut(application, settings);
  const { receive, send } = settings;
  const sending = isRecord(send) ? { send: { ...send, ...sendingServer(application) } } : {};
  try {
    return mailboxFromInput(
      parseInput(MailboxInput, {
        ...settings,
        ...sending,
        address: login.address,
        receive: { ...(isRecord(receive) && receive), ...receivingPart(application, login) },
      }),
    );
  } catch (error) {
    throw belowMailbox(error);
  }
}

/** The registered mailbox with the new login. Everything else stays. */
export function renewedMailbox(application: Application, previous: Mailbox, login: ConsentLogin): Mailbox {
  const wire = toWireForm(previous);
  const receive = isRecord(wire["receive"]) ? wire["receive"] : {};
  const input = { ...wire, receive: { ...receive, ...receivingPart(application, login) } };
  return mailboxFromInput(parseInput(MailboxInput, input), previous).mailbox;
}

/** Members of `receive` and `send` that follow from the application. */
const FROM_APPLICATION = {
  receive: ["auth", "host", "port", "tls", "ca", "fingerprint", "cloud", "graphUrl", "user", "url"],
  send: ["auth", "host", "port", "tls", "ca", "fingerprint"],
};

/** A link must not say where the provider's tokens go, nor repeat what stands beside `mailbox`. */
function checkLeftOut(application: Application, settings: Settings): void {
  if (settings["address"] !== undefined)
    throw invalidField("mailbox.address", "must be left out: `address` stands beside `mailbox`");
  for (const part of ["receive", "send"] as const) {
    const given = settings[part];
    const name = isRecord(given) ? FROM_APPLICATION[part].find((one) => given[one] !== undefined) : undefined;
    if (name !== undefined)
      throw invalidField(`mailbox.${part}.${name}`, "must be left out: it follows from the application");
  }
  const { receive } = settings;
  const protocol = PROTOCOLS[application.provider];
  if (isRecord(receive) && receive["protocol"] !== undefined && receive["protocol"] !== protocol)
    throw invalidField("mailbox.receive.protocol", `must be ${protocol}, or left out: it follows from the application`);
}

const PROTOCOLS = { microsoft: "graph", google: "imap" } as const;

function receivingPart(application: Application, login: ConsentLogin) {
  return application.provider === "microsoft" ? byGraph(application, login) : byImap(application, login);
}

function byGraph(application: MicrosoftApplication, { refreshToken, owner }: ConsentLogin) {
  const { id, clientId, cloud, graphUrl } = application;
  return {
    protocol: PROTOCOLS.microsoft,
    cloud,
    graphUrl,
    // An address of the user need not be the name by which Graph knows the user.
    ...(owner !== undefined && { user: owner }),
    auth: { oauth2: { ...loginOf(application).oauth2, clientId, application: id, refreshToken } },
  };
}

type MailServer = NonNullable<GoogleApplication["imap"]>;
const GMAIL: Record<"imap" | "smtp", MailServer> = {
  imap: { host: "imap.gmail.com" },
  smtp: { host: "smtp.gmail.com" },
};

function byImap(application: GoogleApplication, { address, refreshToken }: ConsentLogin) {
  const { id, clientId, imap = GMAIL.imap } = application;
  const oauth2 = { tokenUrl: tokenUrlOfApplication(application), clientId, application: id, refreshToken };
  return { protocol: PROTOCOLS.google, ...imap, auth: { user: address, oauth2 } };
}

function sendingServer(application: Application) {
  return application.provider === "google" ? (application.smtp ?? GMAIL.smtp) : {};
}

/** Throws `invalid` if the registered mailbox is not at the servers of the application. */
export function checkRenewable(application: Application, { id, receive }: Mailbox): void {
  if (application.provider === "microsoft") {
    if (receive.protocol === "graph" && graphRootOfLogin(receive, application) === graphRootOf(application)) return;
  } else if (receive.protocol === "imap") {
    const { host, port, tls = "implicit" } = byImap(application, { address: "", refreshToken: "" });
    const wanted = { protocol: "imap", host, tls, ...(port !== undefined && { port }) } as const;
    const isSameHost = receive.host.toLowerCase() === host.toLowerCase();
    if (isSameHost && portOf(receive) === portOf(wanted) && receive.tls === tls) return;
  }
  throw invalidField("mailbox.id", `names the mailbox ${id}, which is not received from the application's servers`);
}

/** The root of a mailbox that names an application is known for this one only. */
function graphRootOfLogin(receive: Extract<Mailbox["receive"], { protocol: "graph" }>, application: Application) {
  if (!("application" in receive.auth)) return graphRootOf(receive);
  return receive.auth.application === application.id && application.provider === "microsoft"
    ? graphRootOf(application)
    : undefined;
}

/** The names of what the provider is asked for: no more than the mailbox needs. */
export function listPermissions(application: Application, { receive, send }: Mailbox): string[] {
  if (application.provider === "google") return ["https://mail.google.com/"];
  const sends = send !== undefined && send.protocol !== "smtp";
  // A message is sent as a draft, which is a change of the mailbox.
  const changes = sends || afterDeliveryOf(receive) !== "leave";
  return [changes ? "Mail.ReadWrite" : "Mail.Read", ...(sends ? ["Mail.Send"] : []), "User.Read"];
}

/** The same problem with the paths as they are in the request. */
function belowMailbox(error: unknown): unknown {
  if (!(error instanceof Problem) || error.code !== "invalid") return error;
  const errors = error.errors.map(({ path, message }) => ({ path: `mailbox.${path}`, message }));
  const named = errors.map(({ path, message }) => `${path} ${message}`).join("; ");
  return new Problem("invalid", `Not valid: ${named}`, { retry: "never", errors });
}
