/** What the headers of stored messages say. Only messages that wait or are parked are stored. */
import type { Delivery } from "../../../shared/contract/delivery.ts";
import { Problem } from "../../../shared/contract/problem.ts";
import { parseHeadersOnly } from "../../../shared/mail/mime/message.ts";
import type { Store } from "../../../shared/store/store.ts";
import type { Letter } from "../../pages/console/delivery.ts";

/** The header of the delivery's message; undefined if it is no longer stored. */
export async function readLetter(
  { deliveries }: Pick<Store, "deliveries">,
  { id, spooled }: Delivery,
): Promise<Letter | undefined> {
  const raw = spooled ? await deliveries.getRaw(id) : undefined;
  if (!raw) return undefined;
  const { subject, from, to, date, messageId, headers } = parseHeadersOnly(raw, "only the header is shown");
  return { subject, from: from ? nameOf(from) : "", to: to.map(nameOf).join(", "), date, messageId, headers };
}

function nameOf({ name, address }: { name?: string | null; address: string | null }): string {
  return name && address ? `${name} <${address}>` : name || address || "";
}

/** The setting forbids it, whatever the token may do. */
export function hiddenProblem(what: string): Problem {
  return new Problem("forbidden", `The console of this service does not show ${what}.`, {
    retry: "never",
    fix: "CONSOLE_BODIES decides what the console shows of messages.",
  });
}
