/** Whose turn it is: lanes with due tasks take turns, and none may have more than its share running. */
import type { Row, TaskRows } from "./rows.ts";

type Deps = { rows: TaskRows; running: ReadonlyMap<number, string>; perLane: number };

export type Lanes = {
  /** Takes up the lanes whose tasks became due since the last look. */
  look(now: number): void;
  /** This lane may have something to do again. */
  offer(lane: string): void;
  /** The next task that may run, undefined when there is none now. */
  next(now: number): Row | undefined;
};

/** Memory follows the number of lanes with due tasks, not the number of tasks. */
export function lanes({ rows, running, perLane }: Deps): Lanes {
  const turns = new Set<string>();
  let lookedAt = 0;
  return {
    look(now) {
      // A clock that was set back would hide tasks that became due before: then everything is looked at.
      const from = now < lookedAt ? 0 : lookedAt;
      for (const lane of rows.lanesDue(from, now)) turns.add(lane);
      lookedAt = now;
    },
    offer(lane) {
      turns.add(lane);
    },
    next(now) {
      for (const lane of turns) {
        turns.delete(lane);
        const row = first(lane, now);
        if (row === undefined) continue;
        turns.add(lane);
        return row;
      }
      return undefined;
    },
  };

  /** A lane that has its share running gets no turn until one of its tasks ends and offers it again. */
  function first(lane: string, now: number): Row | undefined {
    const busy = [...running.values()].filter((other) => other === lane).length;
    if (busy >= perLane) return undefined;
    const id = rows.due(lane, now, busy + 1).find((one) => !running.has(one));
    return id === undefined ? undefined : rows.row(id);
  }
}
