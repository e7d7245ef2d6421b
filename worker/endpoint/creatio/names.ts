/**
 * Names and numbers of the Creatio dialect that no public source settles: kept in one place, so that what one recording of a
 * real CRM shows (LISTENERS_RECORD) is corrected here and nowhere else.
 */
import type { Protocol } from "../../../shared/contract/mailbox.ts";
import type { ProblemCode } from "../../../shared/contract/problem.ts";

/** The service that takes callbacks; what follows it in a URL is its method. */
export const SERVICE = "ExchangeListenerService.svc";

/** Its methods. */
export const METHODS = { mail: "ProcessFullEmail", state: "ProcessMailboxState", token: "RefreshToken" } as const;

/**
 * The .NET exception a fault is reported as: the CRM's table of sync errors matches by the end of the class name. A code that is
 * not here is a ServiceException.
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

const REQUEST = "Microsoft.Exchange.WebServices.Data.ServiceRequestException";
const RESPONSE = "Microsoft.Exchange.WebServices.Data.ServiceResponseException";

/** The same for an Exchange mailbox, as Microsoft's library for EWS names its errors; what it lacks is named as above. */
const EWS_EXCEPTIONS: Partial<Record<ProblemCode, string>> = {
  auth: REQUEST,
  auth_method: REQUEST,
  token: REQUEST,
  access: RESPONSE,
  no_mailbox: RESPONSE,
  folder: RESPONSE,
  refused: RESPONSE,
  sender: RESPONSE,
  protocol: REQUEST,
  autodiscover: "Microsoft.Exchange.WebServices.Data.AutodiscoverLocalException",
};

/** The class name for a fault of a mailbox of this protocol. */
export function exceptionOf(code: ProblemCode, protocol: Protocol): string {
  const own = protocol === "ews" ? EWS_EXCEPTIONS[code] : undefined;
  return own ?? EXCEPTIONS[code] ?? "ServiceException";
}

/** What that library says of a refused login; rules of CRMs look for it. */
const UNAUTHORIZED = "The request failed. The remote server returned an error: (401) Unauthorized";

/** Words that a CRM's rules look for and our own causes lack. */
export function wordsFor(code: ProblemCode, protocol: Protocol): string | undefined {
  return protocol === "ews" && ["auth", "auth_method", "token"].includes(code) ? UNAUTHORIZED : undefined;
}

/** What an answer says when a message is too large for the CRM: its own words, WCF's quotas, IIS and ASP.NET. */
export const TOO_LARGE =
  /quota|too (large|long|big)|maximum (message|request|array|string)|maxReceived|MaxJsonLength|exceeded/i;
/** IIS refuses larger bodies with 404.13 unless told otherwise (maxAllowedContentLength). */
export const IIS_MOST_BYTES = 30_000_000;
