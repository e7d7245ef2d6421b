/**
 * The epoch of a folder: as long as it stays, a uid means the same message. It is the server's UIDVALIDITY. The service
 * adds a number to it if the server went back in its uids without changing the UIDVALIDITY.
 */
import type { MailboxObject } from "imapflow";

/** The epoch of folders whose server never reports a UIDVALIDITY. */
const UNREPORTED = "0";

/** The UIDVALIDITY that the server reported for the open folder; undefined if it reported none. */
function readUidValidity(box: MailboxObject): string | undefined {
  const reported: unknown = box.uidValidity;
  return reported === undefined || reported === null || String(reported) === "0" ? undefined : String(reported);
}

/**
 * The epoch of the open folder, given the known one. If the server reports no UIDVALIDITY this time, nothing says that
 * it changed, so the epoch stays.
 */
export function epochOf(box: MailboxObject, known: string | undefined): string {
  const reported = readUidValidity(box);
  if (reported === undefined) return known ?? UNREPORTED;
  return known !== undefined && uidValidityOf(known) === reported ? known : reported;
}

/** Whether a uid of this epoch may mean the same message in the open folder. */
export function isSameEpoch(epoch: string, box: MailboxObject): boolean {
  const reported = readUidValidity(box);
  return reported === undefined || uidValidityOf(epoch) === reported;
}

/** Whether this is the UIDVALIDITY of the epoch; false if none is reported. */
export function isSameUidValidity(epoch: string, uidValidity: bigint | undefined): boolean {
  return uidValidity !== undefined && uidValidityOf(epoch) === String(uidValidity);
}

/** The next epoch under the same UIDVALIDITY: 7, 7#2, 7#3. */
export function nextGeneration(epoch: string): string {
  const [uidValidity = UNREPORTED, generation = "1"] = epoch.split("#");
  return `${uidValidity}#${Number(generation) + 1}`;
}

function uidValidityOf(epoch: string): string {
  return epoch.split("#")[0] ?? epoch;
}
