/** What all Graph mailboxes of a process share: connections by server and trust, and the gate of their requests. */
import {
  type ConnectionPool,
  connectionPool,
  type ConnectionPoolDeps,
  type PoolLimits,
  type ServerTarget,
} from "../../http/connection-pool.ts";
import { requestGate, type RequestGate } from "./gate.ts";
import type { RequestSlots } from "./slots.ts";

export interface GraphService {
  readonly gate: RequestGate;
  /** The connections to this server. Call `release` once; they are closed after the last user. */
  acquire(deps: ConnectionPoolDeps, root: URL, trust: Trust): { pool: ConnectionPool; release: () => void };
}

type Trust = Pick<ServerTarget, "ca" | "fingerprint">;

/** Every request carries its own token, so mailboxes share connections. The gate limits each mailbox's requests. */
const LIMITS: PoolLimits = { requests: { short: Infinity, flow: Infinity, fresh: Infinity }, idle: 32 };

/** Created once in a process. It opens nothing before the first mailbox. `slots` are those that all nodes share. */
export function graphService(slots?: RequestSlots): GraphService {
  const pools = new Map<string, { pool: ConnectionPool; users: number }>();
  return {
    gate: requestGate(slots),
    acquire(deps, root, { ca, fingerprint }) {
      const key = JSON.stringify([root.origin, ca, fingerprint]);
      const secure = root.protocol === "https:";
      const port = Number(root.port) || (secure ? 443 : 80);
      const target = { host: root.hostname, port, secure, ca, fingerprint };
      const entry = pools.get(key) ?? { pool: connectionPool(deps, target, LIMITS), users: 0 };
      pools.set(key, entry);
      entry.users++;
      let released = false;
      const release = () => {
        if (released) return;
        released = true;
        if (--entry.users > 0) return;
        pools.delete(key);
        entry.pool.close();
      };
      return { pool: entry.pool, release };
    },
  };
}
