/** Who owns which mailbox: this node alone, or nodes that share them fairly through Redis. */
import manifest from "../../package.json" with { type: "json" };
import { joinCluster } from "../../shared/nodes/cluster.ts";
import type { About } from "../../shared/nodes/heartbeats.ts";
import type { Node } from "../../shared/node.ts";
import type { Part } from "../../shared/run.ts";
import type { Leases } from "./lease.ts";
import { redisLeases } from "./redis.ts";
import { fairShare } from "./fair-share.ts";
import { singleLeases } from "./single.ts";

export interface Ownership {
  leases: Leases;
  /**
   * Which of the wanted mailboxes this node should hold, given those it holds now; `surplus` leaves bit by bit: ask again soon.
   * `unserved` are those that no node has room for.
   */
  share(
    wanted: readonly string[],
    held: ReadonlySet<string>,
  ): { mine: ReadonlySet<string>; surplus: number; unserved: number };
  /** Calls `changed` when nodes come or go, or another node changed mailboxes. */
  onChange(changed: () => void): void;
  /** Tells the other nodes that mailboxes changed. */
  announce(): void;
  /** All live nodes, asked now or as last heard. */
  nodes: { now(): Promise<About[]>; known(): readonly About[] };
  /** To be run inside the recorders and outside of the subscriptions. */
  parts: Part[];
}

/** How many mailboxes a second a node lets go when another one has joined. */
const GIVE_PER_SECOND = 20;

/** `mailboxes` says how many this node listens to now. */
export async function openOwnership(node: Node, mailboxes: () => number): Promise<Ownership> {
  const { redis, store, config } = node;
  if (redis === undefined) {
    const self = {
      role: "api",
      name: node.name,
      version: manifest.version,
      startedAt: new Date().toISOString(),
    } as const;
    const known = () => [{ ...self, mailboxes: mailboxes(), capacity: config.MAILBOXES_PER_NODE }];
    return {
      leases: singleLeases(store.cursors),
      share: everything,
      onChange: () => undefined,
      announce: () => undefined,
      nodes: { known, now: async () => known() },
      parts: [],
    };
  }
  const capacity = config.MAILBOXES_PER_NODE;
  const { keys, news, sessions, parts } = await joinCluster({ ...node, redis }, { role: "api", capacity, mailboxes });
  const leases = redisLeases({ redis, keys, news, sessions });
  const share = fairShare({ known: sessions.known, givePerSecond: GIVE_PER_SECOND });
  return {
    leases,
    share: share.of,
    onChange(changed) {
      sessions.onChange(changed);
      news.listen(({ kind }) => kind === "mailboxes" && changed());
    },
    announce() {
      // Lost news only delay: every node looks by itself from time to time.
      news.tell({ kind: "mailboxes" }).catch(() => undefined);
    },
    nodes: { now: sessions.nodes, known: () => sessions.known().nodes },
    parts: [...parts, { name: "leases", run: leases.run }],
  };
}

function everything(wanted: readonly string[]) {
  return { mine: new Set(wanted), surplus: 0, unserved: 0 };
}
