/**
 * Names and numbers of the Creatio dialect that no public source settles: kept in one place, so that what one recording of a
 * real CRM shows (LISTENERS_RECORD) is corrected here and nowhere else.
 */
import type { ProblemCode } from "../../shared/contract/problem.ts";

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

/** The class name for a fault. */
export function exceptionOf(code: ProblemCode): string {
  return EXCEPTIONS[code] ?? "ServiceException";
}

/** What an answer says when a message is too large for the CRM: its own words, WCF's quotas, IIS and ASP.NET. */
export const TOO_LARGE =
  /quota|too (large|long|big)|maximum (message|request|array|string)|maxReceived|MaxJsonLength|exceeded/i;
/** IIS refuses larger bodies with 404.13 unless told otherwise (maxAllowedContentLength). */
export const IIS_MOST_BYTES = 30_000_000;
