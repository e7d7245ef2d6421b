/**
 * Which mailboxes are enabled, as a local copy. While nothing changes this costs one command. Otherwise only the
 * changes are read.
 */
import { randomUUID } from "node:crypto";
import { Problem } from "../../contract/problem.ts";
import type { RedisRegistry } from "./registry.ts";

type EnabledMailboxesReaderDeps = { registry: RedisRegistry; repairIndex: (ids: string[]) => Promise<void> };
type EnabledMailbox = { id: string; revision: number };

/**
 * When Redis was emptied or restored to an older state, the first call throws a `store` Problem, so that somebody
 * notices. It does not answer that no mailbox is enabled. The next call reads everything again.
 */
export function enabledMailboxesReader({
  registry,
  repairIndex: mend,
}: EnabledMailboxesReaderDeps): () => Promise<EnabledMailbox[]> {
  const revisions = new Map<string, number>();
  let enabled: EnabledMailbox[] = [];
  let era = "";
  let version = 0;
  const clearCache = () => {
    revisions.clear();
    enabled = [];
    version = 0;
  };

  return async () => {
    let current = await registry.readVersion();
    if (current.interrupted.length > 0) {
      await mend(current.interrupted);
      current = await registry.readVersion();
    }
    if (current.era !== era) {
      const replaced = era !== "";
      clearCache();
      era = current.era === "" ? await registry.beginEra(randomUUID()) : current.era;
      if (replaced)
        throw new Problem("store", "Redis was emptied or replaced: the mailboxes registered there before are gone");
    }
    if (version > current.version || version < current.floor) clearCache();
    if (version === current.version) return enabled;
    for (let page = await registry.listChanges(version); page.length > 0; page = await registry.listChanges(version)) {
      for (const change of page) {
        if (change.revision > 0 && !change.paused) revisions.set(change.id, change.revision);
        else revisions.delete(change.id);
        version = change.version;
      }
    }
    enabled = [...revisions].map(([id, revision]) => ({ id, revision })).toSorted((a, b) => (a.id < b.id ? -1 : 1));
    return enabled;
  };
}
