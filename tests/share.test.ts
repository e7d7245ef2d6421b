/** Fair share: what each node reckons to be its own, with nodes that join, leave, are small or share a name. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fairShare, assignMailboxes } from "../api/lease/fair-share.ts";
import type { LiveNode } from "../shared/nodes/heartbeats.ts";

const ids = Array.from({ length: 3_000 }, (_, n) => `mailbox-${n}`);

function nodeOf(name: string, more: Partial<LiveNode> = {}): LiveNode {
  return {
    session: `session of ${name}`,
    role: "api",
    name,
    version: "1",
    startedAt: "",
    mailboxes: 0,
    capacity: 10_000,
    ...more,
  };
}

/** Who has each mailbox, by session. */
function owners(nodes: LiveNode[]): Map<string, string> {
  const { parts } = assignMailboxes(ids, nodes);
  return new Map([...parts].flatMap(([session, part]) => part.map((id): [string, string] => [id, session])));
}

const nodes = ["api-0", "api-1", "api-2"].map((name) => nodeOf(name));

describe("fair share", () => {
  test("every mailbox has one node, and the nodes have about the same", () => {
    const { parts, unserved } = assignMailboxes(ids, nodes);
    assert.equal(unserved, 0);
    assert.deepEqual([...parts.values()].flat().toSorted(), ids.toSorted());
    for (const part of parts.values()) assert.ok(part.length > 900 && part.length < 1_100, `${part.length}`);
  });

  test("when a node leaves only its mailboxes move, when it joins again it has the same ones", () => {
    const whole = owners(nodes);
    const [gone, ...rest] = nodes;
    const without = owners(rest);
    for (const [id, owner] of whole) if (owner !== gone?.session) assert.equal(without.get(id), owner);
    const restarted = owners([...rest, nodeOf("api-0", { session: "another session" })]);
    for (const [id, owner] of whole) {
      assert.equal(restarted.get(id), owner === gone?.session ? "another session" : owner);
    }
  });

  test("nodes of one name share as others do, and workers get nothing", () => {
    const namesakes = ["a", "b"].map((session) => nodeOf("api", { session }));
    const { parts } = assignMailboxes(ids, [...namesakes, nodeOf("worker", { role: "worker", capacity: 0 })]);
    assert.deepEqual([...parts.keys()].toSorted(), ["a", "b"]);
    for (const part of parts.values()) assert.ok(part.length > 1_300 && part.length < 1_700, `${part.length}`);
  });

  test("a node claims of some mailboxes those that it has of all, until nodes change or one of them is full", () => {
    let cluster = { nodes, own: nodes[0]?.session };
    const share = fairShare({ cluster: () => cluster, releasesPerSecond: 20 });
    assert.equal(share.claim(["one"]), undefined, "nothing was assigned yet");
    share.assign(ids, new Set());
    const more = Array.from({ length: 300 }, (_, n) => `more-${n}`);
    const claimed = share.claim(more);
    const { mine } = share.assign([...ids, ...more], new Set());
    assert.deepEqual(
      [...(claimed ?? [])],
      more.filter((id) => mine.has(id)),
    );
    cluster = { ...cluster, nodes: nodes.slice(0, 2) };
    assert.equal(share.claim(["one"]), undefined, "a node has gone");
    cluster = { ...cluster, nodes: nodes.map((node) => ({ ...node, capacity: 1_050 })) };
    share.assign(ids, new Set());
    assert.equal(share.claim(more), undefined, "there is not room for all of them");
  });

  test("a full node's overflow goes to the next in rank, and what nobody has room for is counted", () => {
    const [one = nodeOf(""), ...others] = nodes;
    const { parts, unserved } = assignMailboxes(ids, [{ ...one, capacity: 100 }, ...others]);
    assert.equal(parts.get(one.session)?.length, 100);
    assert.equal(unserved, 0);
    assert.equal([...parts.values()].flat().length, ids.length);
    const full = assignMailboxes(
      ids,
      nodes.map((node) => ({ ...node, capacity: 500 })),
    );
    assert.deepEqual(
      [...full.parts.values()].map((part) => part.length),
      [500, 500, 500],
    );
    assert.equal(full.unserved, 1_500);
  });

  test("a node that joins is given its mailboxes bit by bit, one that leaves is replaced at once", () => {
    let now = 0;
    let live = nodes.slice(0, 1);
    const known = () => ({ nodes: live, own: nodes[0]?.session });
    const share = fairShare({ cluster: known, releasesPerSecond: 20, now: () => now });
    let held: ReadonlySet<string> = share.assign(ids, new Set()).mine;
    assert.equal(held.size, 3_000);
    live = nodes.slice(0, 2);
    const ideal = assignMailboxes(ids, live).parts.get(nodes[0]?.session ?? "")?.length ?? 0;
    for (let second = 0; second < 10; second++) {
      now += 1_000;
      const { mine, surplus } = share.assign(ids, held);
      const left = held.size - mine.size;
      assert.ok(left >= 15 && left <= 25, `${left} in a second`);
      assert.equal(surplus, mine.size - ideal);
      held = mine;
    }
    for (let second = 0; second < 120; second++) {
      now += 1_000;
      held = share.assign(ids, held).mine;
    }
    assert.equal(held.size, ideal);
    live = nodes.slice(0, 1);
    assert.equal(share.assign(ids, held).mine.size, 3_000);
  });

  test("a node without a session keeps what it holds and takes nothing new", () => {
    const share = fairShare({ cluster: () => ({ nodes, own: undefined }), releasesPerSecond: 20 });
    assert.deepEqual([...share.assign(ids, new Set(["mailbox-1", "removed"])).mine], ["mailbox-1"]);
  });

  test("a node that loses its session does not say that there is a node again for every mailbox", () => {
    const full = [nodeOf("api-0", { capacity: 100 })];
    let own: string | undefined = full[0]?.session;
    const share = fairShare({ cluster: () => ({ nodes: full, own }), releasesPerSecond: 20 });
    assert.equal(share.assign(ids, new Set()).unserved, 2_900);
    own = undefined;
    assert.equal(share.assign(ids, new Set()).unserved, 2_900);
  });
});
