/**
 * Fair share: which mailboxes each live node should listen to. All nodes reckon the same from the same list, so nobody hands out
 * anything: the highest random weight of (node, mailbox) decides, and when a node comes or goes only its part moves.
 */
import type { NodeInfo } from "../../shared/nodes/heartbeats.ts";

/** `mine`: to be listened to here. `surplus`: held here, but to be given up bit by bit; look again soon. `unserved`: nobody has room. */
export type Part = { mine: Set<string>; surplus: number; unserved: number };

export interface Share {
  /**
   * This node's part of all wanted mailboxes. What it holds beyond it (because a node has joined) stays part of it at first and
   * leaves it at a bounded rate, each time this is called; others can take it as soon as it is let go.
   */
  of(wanted: readonly string[], held: ReadonlySet<string>): Part;
}

type Deps = {
  /** The live nodes and the session of this one, as `Sessions.known` gives them. */
  known: () => { nodes: readonly NodeInfo[]; own: string | undefined };
  /** How many mailboxes a second are let go. */
  givePerSecond: number;
  now?: () => number;
};

/** The allowance that may add up while nobody asks. */
const SAVED_SECONDS = 2;

export function fairShare({ known, givePerSecond, now = () => performance.now() }: Deps): Share {
  let last = now();
  let allowance = 0;
  let unserved = 0;
  return {
    of(wanted, held) {
      const { nodes, own } = known();
      // Without a session nothing can be taken, and nothing new be known; what is held ends by itself.
      if (own === undefined) return { mine: new Set(wanted.filter((id) => held.has(id))), surplus: 0, unserved };
      const { parts, ...left } = sharesOf(wanted, nodes);
      unserved = left.unserved;
      const mine = new Set(parts.get(own));
      const surplus = wanted.filter((id) => held.has(id) && !mine.has(id));
      const passed = (now() - last) / 1_000;
      last = now();
      // Jittered, so that several nodes do not let go in step.
      allowance = Math.min(
        allowance + passed * givePerSecond * (0.8 + Math.random() * 0.4),
        SAVED_SECONDS * givePerSecond,
      );
      const letGo = Math.min(surplus.length, Math.floor(allowance));
      allowance -= letGo;
      for (const id of surplus.slice(letGo)) mine.add(id);
      return { mine, surplus: surplus.length - letGo, unserved };
    },
  };
}

/** Each node's mailboxes, by session; no node gets more than its capacity, what is above it goes to the next in rank. */
export function sharesOf(
  wanted: readonly string[],
  nodes: readonly NodeInfo[],
): { parts: Map<string, string[]>; unserved: number } {
  const ranked = named(nodes.filter(({ capacity }) => capacity > 0));
  const parts = new Map(ranked.map(({ session }) => [session, new Array<string>()]));
  let unserved = 0;
  for (const id of wanted) {
    const hash = hashOf(id);
    let best: string[] | undefined;
    let bestWeight = -1;
    for (const node of ranked) {
      const part = parts.get(node.session);
      const weight = mixed(hash ^ node.hash);
      if (weight <= bestWeight || part === undefined || part.length >= node.capacity) continue;
      best = part;
      bestWeight = weight;
    }
    if (best) best.push(id);
    else unserved += 1;
  }
  return { parts, unserved };
}

/** A node is known by its name, so that it finds its mailboxes again after a restart; namesakes are told apart by their order. */
function named(nodes: readonly NodeInfo[]): { session: string; capacity: number; hash: number }[] {
  const seen = new Map<string, number>();
  return nodes
    .toSorted((a, b) => (a.session < b.session ? -1 : 1))
    .map(({ session, capacity, name }) => {
      const before = seen.get(name) ?? 0;
      seen.set(name, before + 1);
      return { session, capacity, hash: hashOf(before === 0 ? name : `${name}#${before}`) };
    });
}

/** FNV-1a, mixed: quick, and the same on every runtime. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let n = 0; n < text.length; n++) hash = Math.imul(hash ^ text.charCodeAt(n), 0x01000193);
  return mixed(hash);
}

/** The finalizer of MurmurHash3: every bit of the result depends on every bit given. */
function mixed(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
