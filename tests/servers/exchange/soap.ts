/** SOAP as Exchange speaks it: what a request says, how answers and faults are worded ([MS-OXWSCDATA]). */
import { at, child, leaf, MESSAGES, readXml, SOAP, tag, textAt, TYPES, type Xml } from "./xml.ts";

/** An error inside a response message: one item or folder failed, the request as such did not. */
export class EwsError extends Error {
  readonly code: string;
  /** Further XML of the response message, such as the ids of lost subscriptions. */
  readonly extra: string;
  readonly backOffMs: number | undefined;
  constructor(
    code: string,
    more: { message?: string | undefined; extra?: string; backOffMs?: number | undefined } = {},
  ) {
    super(more.message ?? WORDS[code] ?? "The operation failed.");
    this.code = code;
    this.extra = more.extra ?? "";
    this.backOffMs = more.backOffMs;
  }
}

/** An error that is answered by a SOAP fault with status 500. */
export class SoapFault extends Error {
  readonly code: string;
  readonly backOffMs: number | undefined;
  constructor(code: string, more: { message?: string | undefined; backOffMs?: number | undefined } = {}) {
    super(more.message ?? WORDS[code] ?? "The operation failed.");
    this.code = code;
    this.backOffMs = more.backOffMs;
  }
}

/** Exchange's own words; several are looked for by clients. */
const WORDS: Record<string, string> = {
  ErrorAccessDenied: "Access is denied. Check credentials and try again.",
  ErrorExceededConnectionCount:
    "You have exceeded the available concurrent connections for your account.  Try again once your other requests have completed.",
  ErrorExceededSubscriptionCount:
    "You have exceeded the available subscriptions for your account.  Remove unnecessary subscriptions and try your request again.",
  ErrorFolderExists: "A folder with the specified name already exists.",
  ErrorFolderNotFound: "The specified folder could not be found in the store.",
  ErrorImpersonateUserDenied: "The account does not have permission to impersonate the requested user.",
  ErrorInternalServerError: "An internal server error occurred. The operation failed.",
  ErrorInvalidIdMalformed: "Id is malformed.",
  ErrorInvalidSubscription: "Access is denied. Only the subscription owner may access the subscription.",
  ErrorInvalidSyncStateData: "Synchronization state data is corrupt or otherwise invalid.",
  ErrorIrresolvableConflict:
    "The send or update operation could not be performed because the change key passed in the request does not match the current change key for the item.",
  ErrorItemNotFound: "The specified object was not found in the store.",
  ErrorMailboxMoveInProgress: "Mailbox move in progress. Try again later.",
  ErrorMailboxStoreUnavailable: "The mailbox database is temporarily unavailable.",
  ErrorMessageSizeExceeded: "The message exceeds the maximum supported size.",
  ErrorMissedNotificationEvents: "The subscription missed some events.",
  ErrorNonExistentMailbox: "The SMTP address has no mailbox associated with it.",
  ErrorNoRecipients: "No recipients were specified.",
  ErrorPasswordExpired: "The password has expired.",
  ErrorQuotaExceeded: "The action cannot be completed because the mailbox quota has been exceeded.",
  ErrorSendAsDenied:
    "The user account which was used to submit this request does not have the right to send mail on behalf of the specified sending account.",
  ErrorServerBusy: "The server cannot service this request right now. Try again later.",
  ErrorSubscriptionNotFound: "The specified subscription was not found.",
};

/** What a request asks for. */
export type Request = {
  operation: Xml;
  header: Xml | undefined;
  version: string | undefined;
  impersonated: string | undefined;
};

/** Reads the envelope of a request. */
export function readRequest(text: string): Request {
  let whole: Xml;
  try {
    whole = readXml(text);
  } catch (error) {
    throw new SoapFault("ErrorSchemaValidation", { message: `The request failed schema validation: ${String(error)}` });
  }
  const operation = at(whole, "Body")?.children[0];
  if (!operation || whole.space !== "s") {
    throw new SoapFault("ErrorSchemaValidation", { message: "The request failed schema validation: no envelope." });
  }
  const header = child(whole, "Header");
  const sid = at(header, "ExchangeImpersonation", "ConnectingSID");
  return {
    operation,
    header,
    version: child(header, "RequestServerVersion")?.attributes["Version"],
    impersonated: textAt(sid, "PrimarySmtpAddress") ?? textAt(sid, "SmtpAddress") ?? textAt(sid, "PrincipalName"),
  };
}

/** A response message that says success. */
export function success(operation: string, ...content: string[]): string {
  const name = `m:${operation}ResponseMessage`;
  return tag(name, { ResponseClass: "Success" }, leaf("m:ResponseCode", "NoError"), ...content);
}

/** A response message that says what went wrong; anything that is not an EwsError is the server's own fault and thrown on. */
export function failure(operation: string, error: unknown, empty = ""): string {
  if (!(error instanceof EwsError)) throw error;
  return tag(
    `m:${operation}ResponseMessage`,
    { ResponseClass: "Error" },
    leaf("m:MessageText", error.message),
    leaf("m:ResponseCode", error.code),
    leaf("m:DescriptiveLinkKey", 0),
    messageXml("m", error.backOffMs),
    error.extra || empty,
  );
}

function messageXml(prefix: string, backOffMs: number | undefined): string {
  if (backOffMs === undefined) return "";
  const value = tag("t:Value", { Name: "BackOffMilliseconds" }, String(backOffMs));
  return tag(`${prefix}:MessageXml`, prefix === "t" ? { "xmlns:t": TYPES } : {}, value);
}

/** The response of an operation around its response messages. */
export function answer(operation: string, messages: string[]): string {
  return bare(`${operation}Response`, tag("m:ResponseMessages", {}, ...messages));
}

/** An element of the messages' namespace with both usual prefixes declared, as all of Exchange's answers are. */
export function bare(name: string, ...content: string[]): string {
  return tag(`m:${name}`, { "xmlns:m": MESSAGES, "xmlns:t": TYPES }, ...content);
}

/** How the envelope is written: with the prefix "s", another one, or none. */
export type Style = { prefix: string | undefined; build: [number, number, number, number]; schema: string };

/** The envelope around an answer. Exchange leaves the prefix out in streams and has another one inside; so does this. */
export function envelope(style: Style, body: string, streaming = false): string {
  const outer = style.prefix ?? (streaming ? "" : "s");
  const inner = outer === "" ? "soap11" : outer;
  const [major, minor, build, revision] = style.build;
  const version = tag("h:ServerVersionInfo", {
    MajorVersion: major,
    MinorVersion: minor,
    MajorBuildNumber: build,
    MinorBuildNumber: revision,
    Version: style.schema,
    "xmlns:h": TYPES,
    "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
  });
  const declared = inner === outer ? {} : { [`xmlns:${inner}`]: SOAP };
  const top = outer === "" ? { xmlns: SOAP } : { [`xmlns:${outer}`]: SOAP };
  return `<?xml version="1.0" encoding="utf-8"?>${tag(
    outer === "" ? "Envelope" : `${outer}:Envelope`,
    top,
    tag(`${inner}:Header`, declared, version),
    tag(`${inner}:Body`, declared, body),
  )}`;
}

/** A fault as Exchange words it. */
export function faultXml({ code, message, backOffMs }: SoapFault, prefix = "s"): string {
  const errors = { "xmlns:e": "http://schemas.microsoft.com/exchange/services/2006/errors" };
  const name = prefix === "" ? "soap11:Fault" : `${prefix}:Fault`;
  return tag(
    name,
    {},
    tag("faultcode", { "xmlns:a": TYPES }, `a:${code}`),
    tag("faultstring", { "xml:lang": "en-US" }, textOf(message)),
    tag(
      "detail",
      {},
      tag("e:ResponseCode", errors, code),
      tag("e:Message", errors, textOf(message)),
      messageXml("t", backOffMs),
    ),
  );
}

function textOf(message: string): string {
  return leaf("x", message).slice(3, -4);
}
