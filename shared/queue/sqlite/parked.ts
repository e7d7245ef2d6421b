/** The parked tasks of the embedded queue: rows of their own table, kept until a person decides. */
import { Problem } from "../../contract/problem.ts";
import type { Database } from "../../store/sqlite/database.ts";
import { integer, type Row, text } from "../../store/sqlite/row.ts";
import { clock } from "../../time.ts";
import type { ParkedTask, ParkedTasks } from "../queue.ts";
import { parseTask } from "../stored-task.ts";

export interface ParkedRows extends ParkedTasks {
  /** Moves the task from the queue to this table. Durable against kill -9 when it resolves. */
  park(id: number, why: { attempts: number; problem: Problem }): Promise<void>;
  count(): number;
}

const MAX_REASON_LENGTH = 1_000;
/** `?1` is a JSON list of ids, or null for all. */
const CHOSEN = "(?1 is null or cast(id as text) in (select value from json_each(?1)))";

/** `onReplayed` is called when tasks are due again. */
export function parkedRows(db: Database, onReplayed: () => void): ParkedRows {
  const drop = (ids: string | null) => db.run(`delete from parked_tasks where ${CHOSEN}`, ids);
  return {
    async park(id, { attempts, problem }) {
      const reason = problem.message.slice(0, MAX_REASON_LENGTH);
      await db.transactGrouped(() => {
        const sql = `insert into parked_tasks (id, lane, task, attempt, reason, parked_at, created_at)
          select id, lane, task, ?, ?, ?, created_at from tasks where id = ?`;
        db.run(sql, attempts, reason, clock.now(), id);
        db.run("delete from tasks where id = ?", id);
      });
    },
    count: () => integer(db.get("select count(*) as parked from parked_tasks"), "parked"),
    async parked(limit, mailboxPrefix = "") {
      const own = "substr(lane, 1, length(?1)) = ?1";
      const sql = `select * from parked_tasks where ${own} order by parked_at, id limit ?2`;
      return db.all(sql, mailboxPrefix, limit).map(toParkedTask);
    },
    async replayParked(ids) {
      const chosen = ids === undefined ? null : JSON.stringify(ids);
      const replayed = await db.transactGrouped(() => {
        const sql = `insert into tasks (id, lane, task, due_at, attempt, created_at)
          select id, lane, task, ?2, 0, created_at from parked_tasks where ${CHOSEN}`;
        db.run(sql, chosen, clock.now());
        return drop(chosen);
      });
      if (replayed > 0) onReplayed();
      return replayed;
    },
    dropParked: (ids) => db.transactGrouped(() => drop(JSON.stringify(ids))),
  };
}

function toParkedTask(row: Row): ParkedTask {
  const task = parseTask(text(row, "task"));
  return {
    id: String(integer(row, "id")),
    task: task instanceof Problem ? null : task,
    tries: integer(row, "attempt"),
    reason: text(row, "reason"),
    parkedAt: new Date(integer(row, "parked_at")).toISOString(),
  };
}
