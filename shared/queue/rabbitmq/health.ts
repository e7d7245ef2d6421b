/** Whether the broker serves us: said once when it stops and once when all connections are well again. */
import type { Problem } from "../../contract/problem.ts";

/** One connection's view. */
export type Pulse = { onUp(): void; onDown(why: Problem): void; forget(): void };

export type Health = {
  pulse(): Pulse;
};

type Told = {
  onAway?: ((why: Problem) => void) | undefined;
  onBack?: ((ms: number) => void) | undefined;
};

export function rabbitHealth({ onAway, onBack }: Told): Health {
  const ailing = new Set<Pulse>();
  let since: number | undefined;
  const well = (pulse: Pulse) => {
    ailing.delete(pulse);
    if (ailing.size > 0 || since === undefined) return;
    const ms = Math.round(performance.now() - since);
    since = undefined;
    onBack?.(ms);
  };
  return {
    pulse() {
      const pulse: Pulse = {
        onUp: () => well(pulse),
        onDown(why) {
          ailing.add(pulse);
          if (since !== undefined) return;
          since = performance.now();
          onAway?.(why);
        },
        forget: () => well(pulse),
      };
      return pulse;
    },
  };
}
