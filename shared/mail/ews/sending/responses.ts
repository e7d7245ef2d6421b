/** What Exchange's answers mean for an outgoing message: refused for good, to be tried again, or unknown. */
import { Problem, type ProblemCode } from "../../../contract/problem.ts";
import type { ResponseStatus } from "../soap/notifications.ts";
import { getResponseCode, problemFromCode, toEvidence } from "../soap/errors.ts";

type PermanentFailure = { code: ProblemCode; cause: string };

const CONTENT: PermanentFailure = { code: "refused", cause: "Exchange cannot read the message" };
const RECIPIENT: PermanentFailure = { code: "refused", cause: "Exchange does not accept a recipient" };
const SIZE: PermanentFailure = { code: "refused", cause: "The message is larger than Exchange allows" };
const BLOCKED: PermanentFailure = {
  code: "refused",
  cause: "The account may not send until its operator or owner allows it again",
};

/** Response codes that will be the same next time. A code without a row here and in the common table is tried again. */
const PERMANENT: Record<string, PermanentFailure> = {
  ErrorMessageSizeExceeded: SIZE,
  ErrorAttachmentSizeLimitExceeded: SIZE,
  ErrorRequestStreamTooBig: SIZE,
  ErrorDataSizeLimitExceeded: SIZE,
  ErrorInvalidRecipients: RECIPIENT,
  ErrorInvalidSmtpAddress: RECIPIENT,
  ErrorInvalidMailbox: RECIPIENT,
  ErrorMailRecipientNotFound: RECIPIENT,
  ErrorRecipientNotFound: RECIPIENT,
  ErrorMissingRecipients: { code: "refused", cause: "Exchange finds no recipient in the message" },
  ErrorNoRecipients: { code: "refused", cause: "Exchange finds no recipient in the message" },
  ErrorExceededMaxRecipientLimit: {
    code: "refused",
    cause: "The message has more recipients than the account may name",
  },
  ErrorMimeContentInvalid: CONTENT,
  ErrorMimeContentInvalidBase64String: CONTENT,
  ErrorMimeContentConversionFailed: CONTENT,
  ErrorUnsupportedMimeConversion: CONTENT,
  ErrorContentConversionFailed: CONTENT,
  ErrorCorruptData: CONTENT,
  ErrorSchemaValidation: CONTENT,
  ErrorInvalidRequest: CONTENT,
  ErrorAttachmentNestLevelLimitExceeded: CONTENT,
  ErrorVirusDetected: { code: "refused", cause: "Exchange found a virus in the message" },
  ErrorVirusMessageDeleted: { code: "refused", cause: "Exchange found a virus in the message" },
  ErrorMessageBlocked: { code: "refused", cause: "Exchange blocks the message" },
  ErrorSendAsDenied: { code: "sender", cause: "The login may not send under this address" },
  ErrorCreateItemAccessDenied: { code: "access", cause: "The login may not create messages in this mailbox" },
  ErrorMessageSubmissionBlocked: BLOCKED,
  ErrorAccountSuspend: BLOCKED,
  ErrorSavedItemFolderNotFound: { code: "folder", cause: "The mailbox has no folder for sent mail" },
};

/**
 * Codes that come although the operation may have succeeded: from a front-end server that lost the answer, or in the
 * middle of the operation.
 */
const OUTCOME_UNKNOWN_CODES = new Set([
  "ErrorInternalServerError",
  "ErrorTimeoutExpired",
  "ErrorRequestAborted",
  "ErrorClientDisconnected",
  "ErrorProxyCallFailed",
  "ErrorProxyRequestProcessingFailed",
]);
/** The same for a status without a response code: a crash, or a proxy whose server did not answer. */
const OUTCOME_UNKNOWN_STATUSES = new Set([500, 502, 504]);

/** The Problem of a failed response message. A code without a row is tried again. */
export function problemFromResponse(status: ResponseStatus): Problem {
  const row = PERMANENT[status.code];
  if (!row) return problemFromCode(status);
  return new Problem(row.code, row.cause, {
    retry: "never",
    evidence: toEvidence(status.code),
  });
}

/** If the response code of an error will be the same next time, the error as a permanent Problem. */
export function toFinalProblem(error: unknown): unknown {
  if (!(error instanceof Problem)) return error;
  const code = getResponseCode(error);
  return PERMANENT[code] ? problemFromResponse({ code, backOffMs: null }) : error;
}

/**
 * True if nobody can know whether the request was executed: no answer came, or one that does not say it. The evidence
 * begins with the code or status of an answer, if there was one.
 */
export function isOutcomeUnknown(error: unknown): boolean {
  if (!(error instanceof Problem)) return true;
  if (error.code === "auth" || error.code === "auth_method") return false;
  const [, code, status] = /^(?:(Error\w+)|HTTP (\d{3}))\b/.exec(error.evidence ?? "") ?? [];
  if (code !== undefined) return OUTCOME_UNKNOWN_CODES.has(code);
  return status === undefined || OUTCOME_UNKNOWN_STATUSES.has(Number(status));
}

/**
 * True if the request itself was too large, whatever the message: other servers accept more, or several smaller
 * requests work.
 */
export function isTooLarge(error: unknown): boolean {
  if (!(error instanceof Problem)) return false;
  return /^(ErrorRequestStreamTooBig|ErrorDataSizeLimitExceeded|HTTP 413|HTTP 404)\b/.test(error.evidence ?? "");
}
