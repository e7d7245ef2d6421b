/**
 * Which mailboxes are enabled. While nothing changes, following them costs one command. Otherwise only the changes are
 * read.
 */
import { randomUUID } from "node:crypto";
import { Problem } from "../../contract/problem.ts";
import type { EnabledFollower, EnabledMailbox } from "../enabled.ts";
import type { RedisRegistry } from "./registry.ts";

type EnabledFollowerDeps = { registry: RedisRegistry; repairIndex: (ids: string[]) => Promise<void> };

/**
 * When Redis was emptied or restored to an older state, the next call throws a `store` Problem, so that somebody
 * notices. It does not answer that no mailbox is enabled. The call after it lists everything again.
 */
export function enabledFollower({ registry, repairIndex }: EnabledFollowerDeps): EnabledFollower {
  let era = "";
  let version = 0;

  /** True if the changes since `version` are known. */
  const findEra = async (): Promise<boolean> => {
    let current = await registry.readVersion();
    if (current.interrupted.length > 0) {
      await repairIndex(current.interrupted);
      current = await registry.readVersion();
    }
    if (current.era !== era) {
      const isReplaced = era !== "";
      version = 0;
      era = current.era === "" ? await registry.beginEra(randomUUID()) : current.era;
      if (isReplaced)
        throw new Problem("store", "Redis was emptied or replaced: the mailboxes registered there before are gone");
    }
    return version > 0 && version <= current.version && version >= current.floor;
  };

  return {
    async next({ whole = false } = {}) {
      const isKnown = (await findEra()) && !whole;
      const revisions = new Map<string, number>();
      let seen = isKnown ? version : 0;
      for (let page = await registry.listChanges(seen); page.length > 0; page = await registry.listChanges(seen))
        for (const change of page) {
          if (change.revision > 0 && !change.paused) revisions.set(change.id, change.revision);
          else if (isKnown) revisions.set(change.id, 0);
          else revisions.delete(change.id);
          seen = change.version;
        }
      version = seen;
      return { whole: !isKnown, mailboxes: Array.from(revisions, ([id, revision]) => ({ id, revision })) };
    },
  };
}

/** Lists the enabled mailboxes in the order of their ids. It keeps the list, and reads only what has changed since. */
export function enabledLister(follower: EnabledFollower): () => Promise<EnabledMailbox[]> {
  const revisions = new Map<string, number>();
  let list: EnabledMailbox[] = [];
  return async () => {
    const { whole, mailboxes } = await follower.next();
    if (!whole && mailboxes.length === 0) return list;
    if (whole) revisions.clear();
    for (const { id, revision } of mailboxes) {
      if (revision > 0) revisions.set(id, revision);
      else revisions.delete(id);
    }
    list = Array.from(revisions, ([id, revision]) => ({ id, revision })).toSorted((a, b) => (a.id < b.id ? -1 : 1));
    return list;
  };
}
