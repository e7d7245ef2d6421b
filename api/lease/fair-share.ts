/**
 * Fair share: which mailboxes each live node should listen to. All nodes compute the same result from the same list, so
 * no node has to assign anything. The highest random weight of (node, mailbox) decides. When a node starts or stops,
 * only its own part moves.
 */
import type { LiveNode } from "../../shared/nodes/heartbeats.ts";
import { hashOf, weightOf } from "../../shared/rendezvous.ts";

/**
 * `mine`: this node listens to these. `surplus`: it still holds these and must release them bit by bit, so look again
 * soon. `unserved`: all nodes are full.
 */
export type Assignment = { mine: Set<string>; surplus: number; unserved: number };

export interface FairShare {
  /**
   * This node's part of all enabled mailboxes. If it holds more than its part (because a node has joined), the surplus
   * stays in `mine` at first. Each call removes some of it, at a bounded rate. Others can take a mailbox as soon as it
   * is released.
   */
  assign(enabled: readonly string[], held: ReadonlySet<string>): Assignment;
  /**
   * This node's part of some mailboxes, as the last `assign` would have it. Undefined if that takes another `assign`:
   * the nodes are others than then, or one of them may be full.
   */
  claim(changed: readonly string[]): ReadonlySet<string> | undefined;
}

type FairShareDeps = {
  /** The live nodes and this node's session, as `Heartbeats.getCached` returns them. */
  cluster: () => { nodes: readonly LiveNode[]; own: string | undefined };
  /** How many mailboxes a second are released. */
  releasesPerSecond: number;
  now?: () => number;
};

/** How many seconds' worth of releases may accumulate between two calls. */
const MAX_BURST_SECONDS = 2;

export function fairShare({
  cluster: known,
  releasesPerSecond: givePerSecond,
  now = () => performance.now(),
}: FairShareDeps): FairShare {
  let lastAt = now();
  let allowance = 0;
  let unserved = 0;
  let last: { nodes: string; room: Map<string, number> } | undefined;
  return {
    claim(changed) {
      const { nodes, own } = known();
      if (own === undefined || last?.nodes !== keyOf(nodes)) return undefined;
      const ranked = hashedByName(nodes);
      const mine = new Set<string>();
      for (const id of changed) {
        const best = heaviestFor(id, ranked);
        const room = best && last.room.get(best.session);
        // What was removed counts too. At worst the next comparison of all comes too early.
        if (best === undefined || room === undefined || room <= 0) return undefined;
        last.room.set(best.session, room - 1);
        if (best.session === own) mine.add(id);
      }
      return mine;
    },
    assign(enabled, held) {
      const { nodes, own } = known();
      // Without a session this node cannot acquire anything and knows nothing new. Its leases end by themselves.
      if (own === undefined) return { mine: new Set(enabled.filter((id) => held.has(id))), surplus: 0, unserved };
      const { parts, ...left } = assignMailboxes(enabled, nodes);
      unserved = left.unserved;
      const room = nodes.map(
        ({ session, capacity }) => [session, capacity - (parts.get(session)?.length ?? 0)] as const,
      );
      last = { nodes: keyOf(nodes), room: new Map(room) };
      const mine = new Set(parts.get(own));
      const surplus = enabled.filter((id) => held.has(id) && !mine.has(id));
      const elapsedSeconds = (now() - lastAt) / 1_000;
      lastAt = now();
      // Jittered, so that several nodes do not release in step.
      allowance = Math.min(
        allowance + elapsedSeconds * givePerSecond * (0.8 + Math.random() * 0.4),
        MAX_BURST_SECONDS * givePerSecond,
      );
      const released = Math.min(surplus.length, Math.floor(allowance));
      allowance -= released;
      for (const id of surplus.slice(released)) mine.add(id);
      return { mine, surplus: surplus.length - released, unserved };
    },
  };
}

/**
 * Each node's mailboxes, by session. No node gets more than its capacity; the surplus goes to the node with the next
 * highest weight.
 */
export function assignMailboxes(
  enabled: readonly string[],
  nodes: readonly LiveNode[],
): { parts: Map<string, string[]>; unserved: number } {
  const ranked = hashedByName(nodes).map((node) => ({ ...node, part: new Array<string>() }));
  let unserved = 0;
  for (const id of enabled) {
    const best = heaviestFor(id, ranked, ({ part, capacity }) => part.length < capacity);
    if (best) best.part.push(id);
    else unserved += 1;
  }
  return { parts: new Map(ranked.map(({ session, part }) => [session, part])), unserved };
}

type RankedNode = { session: string; capacity: number; hash: number };

/** The node with the highest weight for this mailbox, of those that have room. */
function heaviestFor<N extends RankedNode>(
  id: string,
  nodes: readonly N[],
  hasRoom?: (node: N) => boolean,
): N | undefined {
  const hash = hashOf(id);
  let best: N | undefined;
  let bestWeight = -1;
  for (const node of nodes) {
    const weight = weightOf(hash, node.hash);
    if (weight <= bestWeight || hasRoom?.(node) === false) continue;
    best = node;
    bestWeight = weight;
  }
  return best;
}

function keyOf(nodes: readonly LiveNode[]): string {
  return JSON.stringify(nodes.map(({ session, name, capacity }) => [session, name, capacity]).toSorted());
}

/**
 * The nodes that hold mailboxes. A node is known by its name, so it gets the same mailboxes after a restart. Nodes of the
 * same name are numbered.
 */
function hashedByName(nodes: readonly LiveNode[]): RankedNode[] {
  const seen = new Map<string, number>();
  return nodes
    .filter(({ capacity }) => capacity > 0)
    .toSorted((a, b) => (a.session < b.session ? -1 : 1))
    .map(({ session, capacity, name }) => {
      const before = seen.get(name) ?? 0;
      seen.set(name, before + 1);
      return { session, capacity, hash: hashOf(before === 0 ? name : `${name}#${before}`) };
    });
}
