/** When a watched mailbox is compared next: when it is due, at a hint, and again soon after a hint that came too early. */
import { wakeup } from "../../../concurrency/wakeup.ts";
import { clock } from "../../../time.ts";

export interface News {
  /** Something is new, or may be. */
  hint(): void;
  /** The last comparison found messages, so the hint is answered. */
  found(): void;
  /** Resolves at a hint, when a comparison must be repeated, after `ms`, or when the signal aborts. */
  wait(ms: number, signal: AbortSignal): Promise<"hinted" | "elapsed" | "aborted">;
}

/** Graph may notify before a comparison shows the message. */
const REPEATS_MS = [2_000, 10_000, 60_000];

export function newsOf(): News {
  const wake = wakeup();
  let repeats: number[] = [];
  return {
    hint() {
      repeats = REPEATS_MS.map((ms) => clock.now() + ms);
      wake.trigger();
    },
    found: () => void (repeats = []),
    async wait(ms, signal) {
      const [repeat = Infinity] = repeats;
      const how = await wake.wait(Math.max(0, Math.min(ms, repeat - clock.now())), signal);
      if (how !== "elapsed") return how === "triggered" ? "hinted" : "aborted";
      if (clock.now() < repeat) return "elapsed";
      repeats.shift();
      return "hinted";
    },
  };
}
