/** What Exchange's answers to a message mean for it: refused for good, to be tried again, or left open. */
import { Problem, type ProblemCode } from "../../../contract/problem.ts";
import { withoutSecrets } from "../../problems.ts";
import type { Said } from "../soap/notifications.ts";
import { problemOfCode } from "../soap/errors.ts";

type Refusal = { code: ProblemCode; cause: string };

const CONTENT: Refusal = { code: "refused", cause: "Exchange cannot read the message" };
const PEOPLE: Refusal = { code: "refused", cause: "Exchange does not accept a recipient" };
const SIZE: Refusal = { code: "refused", cause: "The message is larger than Exchange allows" };
const BLOCKED: Refusal = {
  code: "refused",
  cause: "The account may not send until its operator or owner allows it again",
};

/** Response codes that will be the same next time; what neither this nor the common table knows is tried again. */
const FOR_GOOD: Record<string, Refusal> = {
  ErrorMessageSizeExceeded: SIZE,
  ErrorAttachmentSizeLimitExceeded: SIZE,
  ErrorRequestStreamTooBig: SIZE,
  ErrorDataSizeLimitExceeded: SIZE,
  ErrorInvalidRecipients: PEOPLE,
  ErrorInvalidSmtpAddress: PEOPLE,
  ErrorInvalidMailbox: PEOPLE,
  ErrorMailRecipientNotFound: PEOPLE,
  ErrorRecipientNotFound: PEOPLE,
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

/** Codes said when the work may have been done all the same: by a server in front that lost the answer, or amid the work. */
const MAYBE_DONE = new Set([
  "ErrorInternalServerError",
  "ErrorTimeoutExpired",
  "ErrorRequestAborted",
  "ErrorClientDisconnected",
  "ErrorProxyCallFailed",
  "ErrorProxyRequestProcessingFailed",
]);
/** Likewise for a status that comes without a response code: a crash, or a proxy whose server did not answer it. */
const MAYBE_DONE_STATUSES = new Set([500, 502, 504]);

/** The Problem of a failed response message; what neither table knows is tried again. */
export function refusal(said: Said): Problem {
  const row = FOR_GOOD[said.code];
  if (!row) return problemOfCode(said);
  return new Problem(row.code, row.cause, {
    retry: "never",
    evidence: withoutSecrets(`${said.code}: ${said.words}`, []),
  });
}

/** What was thrown, where its response code is one that will be the same next time, as that for good. */
export function judged(error: unknown): unknown {
  if (!(error instanceof Problem)) return error;
  const [, code, words = ""] = /^(Error\w+): ([^]*)$/.exec(error.evidence ?? "") ?? [];
  return code !== undefined && FOR_GOOD[code] ? refusal({ code, words, backOffMs: null }) : error;
}

/**
 * True where nobody can know whether the whole request was carried out: no answer came, or one that does not say. Evidence begins with
 * the code or the status of an answer, and with neither where there was none.
 */
export function leavesOpen(error: unknown): boolean {
  if (!(error instanceof Problem)) return true;
  if (error.code === "auth" || error.code === "auth_method") return false;
  const [, code, status] = /^(?:(Error\w+)|HTTP (\d{3}))\b/.exec(error.evidence ?? "") ?? [];
  if (code !== undefined) return MAYBE_DONE.has(code);
  return status === undefined || MAYBE_DONE_STATUSES.has(Number(status));
}

/** True where the request as such was too large, whatever the message: other servers take more, or several smaller ones do. */
export function isTooLarge(error: unknown): boolean {
  if (!(error instanceof Problem)) return false;
  return /^(ErrorRequestStreamTooBig|ErrorDataSizeLimitExceeded|HTTP 413|HTTP 404)\b/.test(error.evidence ?? "");
}
