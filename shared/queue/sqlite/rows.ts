/** The rows of the embedded queue: one for each task that is not done. */
import type { Problem } from "../../contract/problem.ts";
import type { Task } from "../../contract/task.ts";
import type { Database } from "../../store/sqlite/database.ts";
import { integer, text } from "../../store/sqlite/row.ts";
import { clock } from "../../time.ts";
import { parseTask } from "../stored-task.ts";

/** `attempts` counts the tries so far. `task` is a Problem if another version wrote it. */
export type TaskRow = { id: number; lane: string; attempts: number; task: Task | Problem };

export type TaskRows = {
  /** Durable against kill -9 when it resolves, as are all writes here. */
  add(task: Task, notBefore: number): Promise<void>;
  remove(id: number): Promise<void>;
  /** Puts the task back under the same id, with another task if one is given. */
  putBack(id: number, to: { dueAt: number; attempts: number; task?: Task }): Promise<void>;
  /** The ids of the first `limit` due tasks of a lane. */
  listDueIds(lane: string, now: number, limit: number): number[];
  /** Undefined if it was done in the meantime. */
  getRow(id: number): TaskRow | undefined;
  /** Lanes with tasks that became due between these times, both included. */
  listDueLanes(from: number, to: number): string[];
  /** When the next task after `now` is due. Undefined if none waits. */
  getNextDueAt(now: number): number | undefined;
  count(now: number): { due: number; later: number };
};

export function taskRows(db: Database): TaskRows {
  const write = async (sql: string, ...values: (string | number | null)[]) => {
    await db.transactGrouped(() => db.run(sql, ...values));
  };
  return {
    async add(task, notBefore) {
      const sql = "insert into tasks (lane, task, due_at, attempt, created_at) values (?, ?, ?, 0, ?)";
      const json = JSON.stringify(task);
      await db.transactGrouped(() => {
        // The time of the write, because a look at the due tasks before it did not see this one.
        const now = clock.now();
        db.run(sql, task.mailbox, json, Math.max(notBefore, now), now);
      });
    },
    remove: (id) => write("delete from tasks where id = ?", id),
    putBack(id, { dueAt, attempts, task }) {
      const json = task === undefined ? null : JSON.stringify(task);
      const sql = "update tasks set due_at = ?, attempt = ?, task = coalesce(?, task) where id = ?";
      return write(sql, dueAt, attempts, json, id);
    },
    listDueIds(lane, now, limit) {
      const sql = "select id from tasks where lane = ? and due_at <= ? order by due_at, id limit ?";
      return db.all(sql, lane, now, limit).map((row) => integer(row, "id"));
    },
    getRow(id) {
      const row = db.get("select lane, attempt, task from tasks where id = ?", id);
      return (
        row && {
          id,
          lane: text(row, "lane"),
          attempts: integer(row, "attempt"),
          task: parseTask(text(row, "task")),
        }
      );
    },
    listDueLanes(from, to) {
      const sql = "select distinct lane from tasks where due_at between ? and ? order by due_at";
      return db.all(sql, from, to).map((row) => text(row, "lane"));
    },
    getNextDueAt(now) {
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
