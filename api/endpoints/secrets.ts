/** Rotation of the webhook secret of all mailboxes of an endpoint: the old secret signs beside the new one for some hours. */
import { asProblem } from "../../shared/contract/problem.ts";
import { Secret } from "../../shared/contract/secret.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { UnreadableSecret } from "../../shared/store/sealed-mailboxes.ts";
import type { Store } from "../../shared/store/store.ts";
import { clock } from "../../shared/time.ts";
import { notFound } from "../http/problems.ts";
import { withCredentialsLock } from "../mailbox-changes.ts";

/** So many mailboxes are changed at once. */
const AT_ONCE = 8;

export type NewSecret = { secret: string; oldSecretUntil: string };
export type Rotated = { changed: number; problems: { mailbox: string; cause: string }[] };

/**
 * Gives each of these mailboxes the secret. One that has it already counts as changed. Stops when the signal aborts, without an error:
 * then fewer are changed, and the same secret can be given again.
 */
export async function rotateSecrets(
  deps: { store: Store },
  ids: readonly string[],
  change: NewSecret,
  signal: AbortSignal,
): Promise<Rotated> {
  const waiting = [...ids];
  const rotated: Rotated = { changed: 0, problems: [] };
  const work = async () => {
    for (let id = waiting.pop(); id !== undefined && !signal.aborted; id = waiting.pop()) {
      const mailbox = id;
      await rotateOne(deps, mailbox, change, signal).then(
        () => (rotated.changed += 1),
        (error: unknown) => rotated.problems.push({ mailbox, cause: asProblem(error).message }),
      );
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return rotated;
}

/** Throws `not_found` if the mailbox is no longer there. */
async function rotateOne(deps: { store: Store }, id: string, change: NewSecret, signal: AbortSignal): Promise<void> {
  const amend = () => deps.store.mailboxes.amend({ id }, (stored) => withSecret(stored, change));
  if (!(await withCredentialsLock(deps, id, amend, () => signal))) throw notFound("mailbox", id);
}

/** The mailbox with this secret. The present one, and the one before it while it still signs, become old ones. */
function withSecret(stored: Mailbox, { secret, oldSecretUntil: until }: NewSecret): Mailbox {
  const { deliver, oldSecrets, ...rest } = stored;
  const current = deliver.secret;
  const changed = { ...rest, deliver: { ...deliver, secret: new Secret(secret) } };
  if (!current || current instanceof UnreadableSecret) return changed;
  if (current.reveal() === secret) return stored;
  const earlier = oldSecrets?.last;
  const stillSigns = earlier !== undefined && Date.parse(earlier.until) > clock.now();
  return { ...changed, oldSecrets: { last: { secret: current, until }, ...(stillSigns && { earlier }) } };
}
