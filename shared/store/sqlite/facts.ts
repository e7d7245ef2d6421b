/** The last facts of each mailbox in SQLite. */
import { Problem } from "../../contract/problem.ts";
import type { Fact } from "../../telemetry/events.ts";
import type { Database } from "./database.ts";
import { json } from "./row.ts";
import type { Facts } from "../store.ts";

const KEPT = 200;

export function sqliteFacts(db: Database): Facts {
  return {
    async append(facts) {
      db.step(() => {
        for (const [mailbox, own] of byMailbox(facts)) {
          // What a batch itself pushes out need not be written.
          for (const fact of own.slice(-KEPT)) {
            db.run("insert into facts (mailbox, doc) values (?, ?)", mailbox, JSON.stringify(fact));
          }
          forgetOld(db, mailbox);
        }
      });
    },
    async recent(mailbox, limit) {
      const sql = "select doc from facts where mailbox = ? order by seq desc limit ?";
      return db.all(sql, mailbox, limit).map((row) => factOf(json(row, "doc")));
    },
  };
}

function byMailbox(facts: Fact[]): Map<string, Fact[]> {
  const found = new Map<string, Fact[]>();
  for (const fact of facts) {
    if (!("mailbox" in fact)) continue;
    const own = found.get(fact.mailbox);
    if (own) own.push(fact);
    else found.set(fact.mailbox, [fact]);
  }
  return found;
}

function forgetOld(db: Database, mailbox: string): void {
  const oldest = "select seq from facts where mailbox = ? order by seq desc limit 1 offset ?";
  db.run(`delete from facts where mailbox = ? and seq <= (${oldest})`, mailbox, mailbox, KEPT);
}

function factOf(value: unknown): Fact {
  if (typeof value === "object" && value !== null && "at" in value && "kind" in value) return value as Fact;
  throw new Problem("store", "The database holds a fact that cannot be read", { retry: "never" });
}
