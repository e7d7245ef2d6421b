/** The facts of connections in SQLite, in a table of their own, because most readers of a state do not need them. */
import * as v from "valibot";
import { ConnectionFacts } from "../../../contract/learned.ts";
import type { Connections } from "../../measured/connections.ts";
import type { Database } from "../database.ts";
import { json } from "../row.ts";

const SAVE = `insert into connections (mailbox, doc) select ?, ? where exists (select 1 from mailboxes where id = ?)
  on conflict do update set doc = excluded.doc`;

export function sqliteConnections(db: Database): Connections {
  return {
    save: (entries) =>
      db.transactGrouped(() => {
        for (const { mailbox, facts } of entries) db.run(SAVE, mailbox, JSON.stringify(facts), mailbox);
      }),
    async read(mailbox) {
      const row = db.get("select doc from connections where mailbox = ?", mailbox);
      return row && v.parse(ConnectionFacts, json(row, "doc"));
    },
  };
}
