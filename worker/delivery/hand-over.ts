/**
 * The proof of the hand-over: whether the endpoint that accepted a message has all of it, so that the mail server's
 * copy may be changed.
 */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { ParsedMessage } from "../../shared/contract/received.ts";
import { attachmentsLeftOut } from "../../shared/mail/mime/limits.ts";

/**
 * Why the mail server's copy of an accepted message is still needed, in plain words; null if it is not. What the
 * mailbox leaves out by its format, by `split`, or by `maxAttachmentBytes: 0` is its owner's choice. What a limit left
 * out, or what could not be read, is not: a limit on the size of attachments says what an endpoint can accept, not what
 * nobody needs. `shortened`: the endpoint refused the whole message as too large and accepted a smaller form. `leftOut`:
 * what the mail server did not give.
 */
export function findMissingContent(
  { deliver }: Mailbox,
  { limited, leftOut = [] }: Pick<ParsedMessage, "limited"> & { leftOut?: string[] | undefined },
  shortened: boolean,
): string | null {
  if (shortened) return "the endpoint accepted it without its attachments";
  // The request's body is all that the mail server gave, however much of it could be parsed.
  if (deliver.format === "raw") return leftOut.length === 0 ? null : leftOut.join("; ");
  const chosen = deliver.maxAttachmentBytes === 0 ? attachmentsLeftOut(0) : undefined;
  const missing = (limited ?? []).filter((reason) => reason !== chosen);
  return missing.length === 0 ? null : missing.join("; ");
}
