/** Rules of the outbox that every store shares. */
import type { Sending } from "../contract/sending.ts";

/**
 * True when nobody needs the bytes any more. The bytes of a failed or unknown sending stay, so that a person can look
 * at them.
 */
export function isSpent({ state, copy }: Sending): boolean {
  return (state === "sent" || state === "bounced") && copy !== "wanted";
}
