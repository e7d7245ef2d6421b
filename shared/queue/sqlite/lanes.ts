/** Decides which task is next: lanes with due tasks take turns, and none runs more than its share. */
import type { TaskRow, TaskRows } from "./rows.ts";

type LanesDeps = { rows: TaskRows; running: ReadonlyMap<number, string>; perLane: number };

export type Lanes = {
  /** Adds the lanes whose tasks became due since the last call. */
  addDueLanes(now: number): void;
  /** Adds a lane that may have a task to run. */
  addLane(lane: string): void;
  /** The next task that may run. Undefined if there is none now. */
  nextRow(now: number): TaskRow | undefined;
};

/** Memory follows the number of lanes with due tasks, not the number of tasks. */
export function lanes({ rows, running, perLane }: LanesDeps): Lanes {
  const readyLanes = new Set<string>();
  let checkedAt = 0;
  return {
    addDueLanes(now) {
      // After the clock was set back, tasks that became due before would be missed. So all tasks are checked.
      const from = now < checkedAt ? 0 : checkedAt;
      for (const lane of rows.listDueLanes(from, now)) readyLanes.add(lane);
      checkedAt = now;
    },
    addLane(lane) {
      readyLanes.add(lane);
    },
    nextRow(now) {
      for (const lane of readyLanes) {
        readyLanes.delete(lane);
        const row = findRunnable(lane, now);
        if (row === undefined) continue;
        readyLanes.add(lane);
        return row;
      }
      return undefined;
    },
  };

  /** A lane that runs its whole share gets no turn. It is added again when one of its tasks ends. */
  function findRunnable(lane: string, now: number): TaskRow | undefined {
    let runningHere = 0;
    for (const other of running.values()) if (other === lane) runningHere += 1;
    if (runningHere >= perLane) return undefined;
    const id = rows.listDueIds(lane, now, runningHere + 1).find((one) => !running.has(one));
    return id === undefined ? undefined : rows.getRow(id);
  }
}
