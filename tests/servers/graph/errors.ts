/** The errors of Graph and of its login server that administrators and programs meet, for tests that go through all of them. */
import type { Fault } from "./faults.ts";
import type { Refusal } from "./world.ts";

/** AADSTS numbers of a token request. */
export const TOKEN_ERRORS = [
  7000215, 7000222, 700016, 7000229, 90002, 900023, 700027, 700024, 1002012, 70011, 500011, 65001, 90094, 50173, 700082,
  70008, 50076, 50079, 53003, 530003, 50196, 90015,
];

/** Of a request to a mailbox, each with what tells it from others. */
export const MAIL_ERRORS: Record<string, Fault & { status: number }> = {
  "an empty, cut or foreign token": {
    status: 401,
    code: "InvalidAuthenticationToken",
    message: "CompactToken parsing failed with error code: 80049217",
  },
  "a token that has expired": {
    status: 401,
    code: "InvalidAuthenticationToken",
    message: "Lifetime validation failed, the token is expired.",
  },
  "a missing permission, or a mailbox out of scope": {
    status: 403,
    code: "ErrorAccessDenied",
    message: "Access is denied. Check credentials and try again.",
  },
  "an application access policy": {
    status: 403,
    code: "ErrorAccessDenied",
    message: "Access to OData is disabled: [RAOP] : Blocked by tenant configured AppOnly AccessPolicy settings.",
  },
  "a missing permission for the directory": {
    status: 403,
    code: "Authorization_RequestDenied",
    message: "Insufficient privileges to complete the operation.",
  },
  "conditional access": {
    status: 403,
    code: "AccessDenied",
    message:
      "Continuous access evaluation resulted in challenge with result: InteractionRequired and code: insufficient_claims",
  },
  "no such user": { status: 404, code: "Request_ResourceNotFound", message: "Resource 'x' does not exist." },
  "no such user, in other words": {
    status: 404,
    code: "ResourceNotFound",
    message: "Resource could not be discovered.",
  },
  "a user without a mailbox": { status: 404, code: "ErrorInvalidUser", message: "The requested user 'x' is invalid." },
  "a mailbox without a licence or on premises": {
    status: 404,
    code: "MailboxNotEnabledForRESTAPI",
    message: "The mailbox is either inactive, soft-deleted, or is hosted on-premise.",
  },
  "a mailbox of a person's own account": {
    status: 404,
    code: "MailboxNotSupportedForRESTAPI",
    message: "REST API is not yet supported for this mailbox.",
  },
  "a message or folder that is gone": {
    status: 404,
    code: "ErrorItemNotFound",
    message: "The specified object was not found in the store.",
  },
  "an address without a mailbox": {
    status: 404,
    code: "ErrorNonExistentMailbox",
    message: "The SMTP address has no mailbox associated with it.",
  },
  "an id of another form": { status: 400, code: "ErrorInvalidIdMalformed", message: "Id is malformed." },
  "a change that another one has overtaken": {
    status: 412,
    code: "ErrorIrresolvableConflict",
    message: "The change key passed in the request does not match the current change key for the item.",
  },
  "a filter that is too complex": {
    status: 400,
    code: "InefficientFilter",
    message: "The restriction or sort order is too complex for this operation.",
  },
  "a query that is not understood": { status: 400, code: "ErrorInvalidUrlQuery", message: "The query is not valid." },
  "a full mailbox": { status: 403, code: "ErrorQuotaExceeded", message: "The mailbox has reached its quota." },
  "a full mailbox, in other words": { status: 507, code: "quotaLimitReached", message: "Insufficient space." },
  "a sender that the mailbox may not use": {
    status: 403,
    code: "ErrorSendAsDenied",
    message: "The user account does not have the right to send mail on behalf of the specified sending account.",
  },
  "a request that is too large": {
    status: 413,
    code: "ErrorMessageSizeExceeded",
    message: "The message exceeds the maximum supported size.",
  },
  "too many requests at once": {
    status: 429,
    code: "ApplicationThrottled",
    message: "Application is over its MailboxConcurrency limit.",
    retryAfter: "2.128",
  },
  "too many requests": { status: 429, code: "TooManyRequests", message: "Too many requests.", retryAfter: "10" },
  "too much work": { status: 429, code: "activityLimitReached", message: "The activity limit was reached." },
  "a transient failure": {
    status: 500,
    code: "ErrorInternalServerTransientError",
    message: "A transient error occurred.",
  },
  "a bad gateway": { status: 502, body: "<html>Bad gateway</html>" },
  "no service, without a word": { status: 503, body: "" },
  "a gateway that waited too long": { status: 504, code: "UnknownError", message: "" },
  "a mailbox that is being moved": {
    status: 503,
    code: "ErrorMailboxMoveInProgress",
    message: "Mailbox move in progress. Try again later.",
  },
  "a mailbox store that is away": {
    status: 503,
    code: "ErrorMailboxStoreUnavailable",
    message: "The mailbox database is temporarily unavailable.",
  },
  "an error with a more exact one inside": {
    status: 404,
    code: "UnknownError",
    message: "",
    inner: "MailboxNotEnabledForRESTAPI",
  },
};

/** Why the content of a single message is not given, for `refuseContent`. */
export const CONTENT_ERRORS: Refusal[] = [
  { status: 500, code: "ErrorCorruptData", message: "The data is corrupt." },
  { status: 400, code: "ErrorInvalidRecipients", message: "At least one recipient is not valid." },
  { status: 500, code: "ErrorCannotOpenFileAttachment", message: "OLE conversion failed for Attachment." },
  { status: 503, code: "ErrorTooManyObjectsOpened", message: "Too many attachments are open." },
  { status: 404, code: "ErrorItemNotFound", message: "The specified object was not found in the store." },
];
