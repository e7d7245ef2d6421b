/** The last facts of each mailbox in SQLite. */
import { Problem } from "../../contract/problem.ts";
import type { Fact } from "../../telemetry/events.ts";
import { parseStoredFact } from "../../telemetry/stored-facts.ts";
import type { Database } from "./database.ts";
import { json } from "./row.ts";
import type { Facts } from "../store.ts";

const MAX_FACTS = 200;
/** After so many new facts the old ones of their mailbox are deleted. Finding them costs as much as writing some. */
const PRUNE_EVERY = 50;
const MOST_COUNTED = 20_000;

export function sqliteFacts(db: Database): Facts {
  /** The facts of each mailbox since its old ones were deleted. */
  const added = new Map<string, number>();
  const isPruneDue = (mailbox: string, more: number): boolean => {
    const count = (added.get(mailbox) ?? PRUNE_EVERY) + more;
    if (added.size >= MOST_COUNTED) added.clear();
    added.set(mailbox, count >= PRUNE_EVERY ? 0 : count);
    return count >= PRUNE_EVERY;
  };
  return {
    async append(facts) {
      db.transact(() => {
        for (const [mailbox, own] of groupByMailbox(facts)) {
          // Facts of this batch that newer facts of the batch would push out need not be written.
          for (const fact of own.slice(-MAX_FACTS)) {
            db.run("insert into facts (mailbox, doc) values (?, ?)", mailbox, JSON.stringify(fact));
          }
          if (isPruneDue(mailbox, own.length)) pruneOldFacts(db, mailbox);
        }
      });
    },
    async recent(mailbox, limit) {
      const sql = "select doc from facts where mailbox = ? order by seq desc limit ?";
      return db.all(sql, mailbox, Math.min(limit, MAX_FACTS)).map((row) => parseFact(json(row, "doc")));
    },
  };
}

function groupByMailbox(facts: Fact[]): Map<string, Fact[]> {
  const groups = new Map<string, Fact[]>();
  for (const fact of facts) {
    if (!("mailbox" in fact)) continue;
    const own = groups.get(fact.mailbox);
    if (own) own.push(fact);
    else groups.set(fact.mailbox, [fact]);
  }
  return groups;
}

function pruneOldFacts(db: Database, mailbox: string): void {
  const oldest = "select seq from facts where mailbox = ? order by seq desc limit 1 offset ?";
  db.run(`delete from facts where mailbox = ? and seq <= (${oldest})`, mailbox, mailbox, MAX_FACTS);
}

function parseFact(value: unknown): Fact {
  const fact = parseStoredFact(value);
  if (fact) return fact;
  throw new Problem("store", "The database holds a fact that cannot be read", { retry: "never" });
}
