/** What changes about the mailboxes that a node may listen to. */
import { isDeepStrictEqual } from "node:util";
import type { Applications } from "../../shared/store/sealed-applications.ts";
import type { Mailboxes } from "../../shared/store/store.ts";
import { clock } from "../../shared/time.ts";

type ChangesDeps = {
  mailboxes: Pick<Mailboxes, "followEnabled">;
  applications: Pick<Applications, "listVersions">;
};

/** How often all mailboxes are compared, in case that a change was missed. */
const COMPARE_ALL_EVERY_MS = 600_000;

export type Changes = ReturnType<typeof followChanges>;

/** Knows which mailboxes are enabled, and what has changed about them and the applications since the last comparison. */
export function followChanges({ mailboxes, applications }: ChangesDeps) {
  const follower = mailboxes.followEnabled();
  const enabled = new Map<string, number>();
  const changed = new Set<string>();
  let versions: ReadonlyMap<string, string> = new Map();
  let concernAll = true;
  let allAt = 0;
  return {
    /** The revision of each enabled mailbox. */
    enabled: enabled as ReadonlyMap<string, number>,
    /** The mailboxes that changed and were not compared yet. */
    changed: changed as ReadonlySet<string>,
    get applications() {
      return versions;
    },
    /** Whether any mailbox may be concerned. */
    get concernAll() {
      return concernAll;
    },
    async read() {
      const found = await follower.next({ whole: clock.now() >= allAt });
      if (found.whole) {
        enabled.clear();
        concernAll = true;
        allAt = clock.now() + COMPARE_ALL_EVERY_MS;
      }
      for (const { id, revision } of found.mailboxes) {
        if (revision > 0) enabled.set(id, revision);
        else enabled.delete(id);
        if (!concernAll) changed.add(id);
      }
      const present = await applications.listVersions();
      concernAll ||= !isDeepStrictEqual(present, versions);
      versions = present;
    },
    /** Everything that was read has been compared. */
    settle() {
      changed.clear();
      concernAll = false;
    },
  };
}
