/** Wakes a waiting loop at once, so that it need not poll. It serves one loop. */
import { clock } from "../time.ts";
import { onAbort } from "./abort.ts";

export interface Wakeup {
  trigger(): void;
  /**
   * Resolves at the next trigger (at once if there was one since the last wait), after `ms`, or when the signal aborts.
   */
  wait(ms: number, signal: AbortSignal): Promise<"triggered" | "elapsed" | "aborted">;
}

export function wakeup(): Wakeup {
  let isTriggered = false;
  let resume: (() => void) | undefined;
  return {
    trigger() {
      isTriggered = true;
      resume?.();
    },
    async wait(ms, signal) {
      const { promise, resolve } = Promise.withResolvers<void>();
      using _ = onAbort(signal, resolve);
      const cancel = clock.wakeAfter(ms, resolve);
      resume = resolve;
      if (isTriggered) resolve();
      await promise;
      cancel();
      resume = undefined;
      const triggered = isTriggered;
      isTriggered = false;
      return signal.aborted ? "aborted" : triggered ? "triggered" : "elapsed";
    },
  };
}
