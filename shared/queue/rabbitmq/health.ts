/** Reports once when the broker cannot be used any more, and once when all connections work again. */
import type { Problem } from "../../contract/problem.ts";

/** The reports of one connection. */
export type ConnectionHealth = { onUp(): void; onDown(why: Problem): void; forget(): void };

export type BrokerHealth = {
  addConnection(): ConnectionHealth;
};

type HealthCallbacks = {
  onAway?: ((why: Problem) => void) | undefined;
  onBack?: ((ms: number) => void) | undefined;
};

export function rabbitHealth({ onAway, onBack }: HealthCallbacks): BrokerHealth {
  const unhealthy = new Set<ConnectionHealth>();
  let since: number | undefined;
  const markHealthy = (connection: ConnectionHealth) => {
    unhealthy.delete(connection);
    if (unhealthy.size > 0 || since === undefined) return;
    const ms = Math.round(performance.now() - since);
    since = undefined;
    onBack?.(ms);
  };
  return {
    addConnection() {
      const pulse: ConnectionHealth = {
        onUp: () => markHealthy(pulse),
        onDown(why) {
          unhealthy.add(pulse);
          if (since !== undefined) return;
          since = performance.now();
          onAway?.(why);
        },
        forget: () => markHealthy(pulse),
      };
      return pulse;
    },
  };
}
