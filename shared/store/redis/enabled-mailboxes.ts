/** Which mailboxes are wanted, kept as a local copy: one command while nothing changed, and only what changed is read otherwise. */
import { randomUUID } from "node:crypto";
import { Problem } from "../../contract/problem.ts";
import type { RedisRegistry } from "./registry.ts";

type Deps = { registry: RedisRegistry; mend: (ids: string[]) => Promise<void> };
type Wanted = { id: string; revision: number };

/**
 * When Redis was emptied (or put back to another state of its data), the first call says so with a `store` Problem instead of
 * answering that nothing is wanted, so that it shows; the next call reads everything anew.
 */
export function wantedReader({ registry, mend }: Deps): () => Promise<Wanted[]> {
  const known = new Map<string, number>();
  let answer: Wanted[] = [];
  let era = "";
  let version = 0;
  const forget = () => {
    known.clear();
    answer = [];
    version = 0;
  };

  return async () => {
    let now = await registry.look();
    if (now.cut.length > 0) {
      await mend(now.cut);
      now = await registry.look();
    }
    if (now.era !== era) {
      const lost = era !== "";
      forget();
      era = now.era === "" ? await registry.beginEra(randomUUID()) : now.era;
      if (lost) throw new Problem("store", "Redis was emptied or replaced: what was registered there before is gone");
    }
    if (version > now.version || version < now.floor) forget();
    if (version === now.version) return answer;
    for (let page = await registry.changes(version); page.length > 0; page = await registry.changes(version)) {
      for (const change of page) {
        if (change.revision > 0 && !change.paused) known.set(change.id, change.revision);
        else known.delete(change.id);
        version = change.version;
      }
    }
    answer = [...known].map(([id, revision]) => ({ id, revision })).toSorted((a, b) => (a.id < b.id ? -1 : 1));
    return answer;
  };
}
