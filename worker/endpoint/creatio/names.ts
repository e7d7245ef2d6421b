/**
 * Names and numbers of the Creatio dialect that no public source confirms. They are kept in one place, so that a
 * recording of a real CRM (CRM_RECORD) needs corrections only here.
 */
import type { Protocol } from "../../../shared/contract/mailbox.ts";
import type { ProblemCode } from "../../../shared/contract/problem.ts";

/** The service that accepts callbacks. Its method follows it in the URL. */
export const SERVICE = "ExchangeListenerService.svc";

/** Its methods. */
export const METHODS = { mail: "ProcessFullEmail", state: "ProcessMailboxState", token: "RefreshToken" } as const;

/**
 * The .NET exception for a problem. The CRM's table of sync errors matches the end of the class name. A code without an
 * entry is a ServiceException.
 */
const EXCEPTIONS: Partial<Record<ProblemCode, string>> = {
  auth: "MailKit.Security.AuthenticationException",
  auth_method: "MailKit.Security.AuthenticationException",
  token: "MailKit.Security.AuthenticationException",
  tls: "MailKit.Security.SslHandshakeException",
  starttls: "MailKit.Security.SslHandshakeException",
  protocol: "MailKit.Net.Imap.ImapProtocolException",
  folder: "MailKit.FolderNotFoundException",
  dns: "System.Net.Sockets.SocketException",
  connect: "System.Net.Sockets.SocketException",
  timeout: "System.TimeoutException",
  egress: "System.Net.Sockets.SocketException",
};

const SERVICE_REQUEST_EXCEPTION = "Microsoft.Exchange.WebServices.Data.ServiceRequestException";
const SERVICE_RESPONSE_EXCEPTION = "Microsoft.Exchange.WebServices.Data.ServiceResponseException";

/**
 * The same for an Exchange mailbox, with the names of Microsoft's EWS library. A code without an entry here uses the
 * table above.
 */
const EWS_EXCEPTIONS: Partial<Record<ProblemCode, string>> = {
  auth: SERVICE_REQUEST_EXCEPTION,
  auth_method: SERVICE_REQUEST_EXCEPTION,
  token: SERVICE_REQUEST_EXCEPTION,
  access: SERVICE_RESPONSE_EXCEPTION,
  no_mailbox: SERVICE_RESPONSE_EXCEPTION,
  folder: SERVICE_RESPONSE_EXCEPTION,
  refused: SERVICE_RESPONSE_EXCEPTION,
  sender: SERVICE_RESPONSE_EXCEPTION,
  protocol: SERVICE_REQUEST_EXCEPTION,
  autodiscover: "Microsoft.Exchange.WebServices.Data.AutodiscoverLocalException",
};

/** The class name for a problem of a mailbox with this protocol. */
export function exceptionOf(code: ProblemCode, protocol: Protocol): string {
  const own = protocol === "ews" ? EWS_EXCEPTIONS[code] : undefined;
  return own ?? EXCEPTIONS[code] ?? "ServiceException";
}

/** What that library says about a refused login. Rules of CRMs search for it. */
const UNAUTHORIZED = "The request failed. The remote server returned an error: (401) Unauthorized";

/** Words that rules of a CRM search for and that our own causes do not contain. */
export function libraryMessageFor(code: ProblemCode, protocol: Protocol): string | undefined {
  return protocol === "ews" && ["auth", "auth_method", "token"].includes(code) ? UNAUTHORIZED : undefined;
}

/** Texts that say that a message is too large for the CRM: its own words, WCF's quotas, IIS and ASP.NET. */
export const TOO_LARGE =
  /quota|too (large|long|big)|maximum (message|request|array|string)|maxReceived|MaxJsonLength|exceeded/i;
/** By default IIS refuses larger bodies with 404.13 (maxAllowedContentLength). */
export const IIS_MAX_BYTES = 30_000_000;
