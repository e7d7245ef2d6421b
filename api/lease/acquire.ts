/** Who owns which mailbox: a single node owns all, several nodes share them fairly through Redis. */
import manifest from "../../package.json" with { type: "json" };
import type { HintChannel } from "../../shared/mail/graph/notifications/hints.ts";
import { joinCluster } from "../../shared/nodes/cluster.ts";
import type { NodeDescription } from "../../shared/nodes/heartbeats.ts";
import type { Node } from "../../shared/node.ts";
import type { Part } from "../../shared/run.ts";
import type { Leases } from "./lease.ts";
import { redisLeases } from "./redis.ts";
import { fairShare } from "./fair-share.ts";
import { singleLeases } from "./single.ts";

export interface Ownership {
  leases: Leases;
  /**
   * Which of the enabled mailboxes this node should hold, given those it holds now. `surplus` is how many it still has
   * to release: call again soon. `unserved` is how many have no node because all are full.
   */
  share(
    wanted: readonly string[],
    held: ReadonlySet<string>,
  ): { mine: ReadonlySet<string>; surplus: number; unserved: number };
  /**
   * Which of these mailboxes this node should hold, whatever became of the others since the last `share`. Undefined if
   * only another `share` can tell, because nodes started or stopped, or one of them is full.
   */
  claim(changed: readonly string[]): ReadonlySet<string> | undefined;
  /** Calls `changed` when nodes start or stop, or when another node changed mailboxes. */
  onChange(changed: () => void): void;
  /** Tells the other nodes that mailboxes changed. */
  announce(): void;
  /** Undefined on a single node. */
  hints: HintChannel | undefined;
  /** All live nodes: read now, or as last known. */
  nodes: { now(): Promise<NodeDescription[]>; known(): readonly NodeDescription[] };
  /** They stop after the subscriptions, which need them until then, and before the recorders of facts. */
  parts: Part[];
}

/** How many mailboxes a second a node releases when another one has joined. */
const RELEASES_PER_SECOND = 20;

/** `mailboxes` returns how many mailboxes this node listens to now. */
export async function openOwnership(node: Node, mailboxes: () => number): Promise<Ownership> {
  const { redis, store, config } = node;
  if (redis === undefined) {
    const self = {
      role: "api" as const,
      name: node.name,
      version: manifest.version,
      startedAt: new Date().toISOString(),
      keyring: [...node.keyring],
    };
    const known = () => [{ ...self, mailboxes: mailboxes(), capacity: config.MAILBOXES_PER_NODE }];
    return {
      leases: singleLeases(store.cursors),
      share: assignAll,
      claim: (changed) => new Set(changed),
      onChange: () => undefined,
      announce: () => undefined,
      hints: undefined,
      nodes: { known, now: async () => known() },
      parts: [],
    };
  }
  const capacity = config.MAILBOXES_PER_NODE;
  const {
    keys,
    clusterEvents: news,
    heartbeats: sessions,
    parts,
  } = await joinCluster({ ...node, redis }, { role: "api", capacity, mailboxes });
  const leases = redisLeases({ redis, keys, news, sessions });
  const share = fairShare({ cluster: sessions.getCached, releasesPerSecond: RELEASES_PER_SECOND });
  return {
    leases,
    share: share.assign,
    claim: share.claim,
    onChange(changed) {
      sessions.onChange(changed);
      news.subscribe(({ kind }) => kind === "mailboxes" && changed());
    },
    announce() {
      // A lost event only costs time, because every node also looks by itself.
      news.publish({ kind: "mailboxes" }).catch(() => undefined);
    },
    hints: {
      publish: (hints) => news.publish({ kind: "hints", hints }),
      subscribe: (heard) => void news.subscribe((event) => event.kind === "hints" && heard(event.hints)),
    },
    nodes: { now: sessions.fetchNodes, known: () => sessions.getCached().nodes },
    parts: [...parts, { name: "leases", run: leases.run }],
  };
}

function assignAll(enabled: readonly string[]) {
  return { mine: new Set(enabled), surplus: 0, unserved: 0 };
}
