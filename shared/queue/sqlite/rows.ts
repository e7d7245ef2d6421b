/** The rows of the embedded queue: one per task that is not done. */
import * as v from "valibot";
import { Problem } from "../../contract/problem.ts";
import { Task } from "../../contract/task.ts";
import type { Database } from "../../store/sqlite/database.ts";
import { integer, text } from "../../store/sqlite/row.ts";

/** `attempt` counts the tries so far. `read` gives a Problem for a task of a newer version. */
export type Row = { id: number; lane: string; attempt: number; read: () => Task | Problem };

export type TaskRows = {
  /** Durable against kill -9 when it resolves, as all that is written here. */
  add(task: Task, notBefore: number): Promise<void>;
  drop(id: number): Promise<void>;
  /** Back in the queue under the same id, with another task if given. */
  putBack(id: number, to: { dueAt: number; attempt: number; task?: Task }): Promise<void>;
  /** The ids of the first `limit` due tasks of a lane. */
  due(lane: string, now: number, limit: number): number[];
  /** Undefined when it is done meanwhile. */
  row(id: number): Row | undefined;
  /** Lanes with tasks that became due in this span of time, both ends included. */
  lanesDue(from: number, to: number): string[];
  /** When the next task after `now` comes due; undefined when none waits. */
  nextDue(now: number): number | undefined;
  count(now: number): { due: number; later: number };
};

export function taskRows(db: Database): TaskRows {
  const write = async (sql: string, ...values: (string | number | null)[]) => {
    await db.together(() => db.run(sql, ...values));
  };
  return {
    async add(task, notBefore) {
      const sql = "insert into tasks (lane, task, due_at, attempt, created_at) values (?, ?, ?, 0, ?)";
      const json = JSON.stringify(task);
      await db.together(() => {
        // When it is written: who looked for what became due before that would not see it.
        const now = Date.now();
        db.run(sql, task.mailbox, json, Math.max(notBefore, now), now);
      });
    },
    drop: (id) => write("delete from tasks where id = ?", id),
    putBack(id, { dueAt, attempt, task }) {
      const json = task === undefined ? null : JSON.stringify(task);
      const sql = "update tasks set due_at = ?, attempt = ?, task = coalesce(?, task) where id = ?";
      return write(sql, dueAt, attempt, json, id);
    },
    due(lane, now, limit) {
      const sql = "select id from tasks where lane = ? and due_at <= ? order by due_at, id limit ?";
      return db.all(sql, lane, now, limit).map((row) => integer(row, "id"));
    },
    row(id) {
      const row = db.get("select lane, attempt, task from tasks where id = ?", id);
      return (
        row && { id, lane: text(row, "lane"), attempt: integer(row, "attempt"), read: () => parsed(text(row, "task")) }
      );
    },
    lanesDue(from, to) {
      const sql = "select distinct lane from tasks where due_at between ? and ? order by due_at";
      return db.all(sql, from, to).map((row) => text(row, "lane"));
    },
    nextDue(now) {
      const row = db.get("select due_at from tasks where due_at > ? order by due_at limit 1", now);
      return row && integer(row, "due_at");
    },
    count(now) {
      const row = db.get("select count(*) as all_of_them, count(*) filter (where due_at <= ?) as due from tasks", now);
      const due = integer(row, "due");
      return { due, later: integer(row, "all_of_them") - due };
    },
  };
}

const Stored = v.pipe(v.string(), v.parseJson(), Task);

function parsed(json: string): Task | Problem {
  const result = v.safeParse(Stored, json);
  if (result.success) return result.output;
  return new Problem("internal", "A task was written by another version of the service", {
    evidence: result.issues[0].message,
  });
}
