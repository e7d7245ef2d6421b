/** How many event streams may be open at the same time: for each caller, and in all. */
import { Problem } from "../../shared/contract/problem.ts";

const MAX_PER_CALLER = 20;
const MAX_STREAMS = 200;

export interface StreamSeats {
  /** Takes a seat for this actor, by its id, until the seat is disposed. Throws `streams` if none is free. */
  take(actor: string): Disposable;
}

export function createStreamSeats(): StreamSeats {
  const seats = new Map<string, number>();
  let all = 0;
  const count = (caller: string, change: 1 | -1) => {
    all += change;
    const left = (seats.get(caller) ?? 0) + change;
    if (left > 0) seats.set(caller, left);
    else seats.delete(caller);
  };
  return {
    take(caller) {
      if ((seats.get(caller) ?? 0) >= MAX_PER_CALLER)
        throw new Problem("streams", `${MAX_PER_CALLER} event streams with these credentials are open.`);
      if (all >= MAX_STREAMS) throw new Problem("streams", `${MAX_STREAMS} event streams are open.`);
      count(caller, 1);
      let isFree = false;
      return {
        [Symbol.dispose]() {
          if (!isFree) count(caller, -1);
          isFree = true;
        },
      };
    },
  };
}
