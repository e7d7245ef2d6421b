/** The report of a sending to an endpoint: a pause of the endpoint counts as no attempt. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { tryTask } from "../shared/queue/perform.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import { vault } from "../shared/store/vault.ts";
import { backoffs } from "../shared/time.ts";
import { notify } from "../worker/delivery/notify.ts";
import { circuitBreakers } from "../worker/endpoint/circuit-breaker.ts";
import type { PostOutcome } from "../worker/endpoint/endpoint.ts";
import { strangerLines } from "../worker/shares/lines.ts";
import { destinationsOf } from "../worker/shares/strangers.ts";
import { sendingOf } from "./promises/outboxes.ts";
import { mailboxOf } from "./promises/samples.ts";

const refused = {
  kind: "refused",
  status: 500,
  ms: 1,
  reason: "the endpoint answered 500",
  words: null,
  retry: "later",
  retryAt: null,
  gone: false,
} satisfies PostOutcome;

test("attempts are counted until the endpoint is paused, and none while it is", async () => {
  const keys = vault([{ id: "test", key: generateEncryptionKey() }]);
  const store = await sqliteStore({ path: ":memory:", vault: keys, windowDays: 7, spoolBytes: 1_000_000 });
  try {
    await store.mailboxes.put(mailboxOf("a"));
    await store.outbox.accept(sendingOf("snd_1", { mailbox: "a", notify: true }), Buffer.from("raw"), 500);
    const backoff = backoffs(1);
    const breakers = circuitBreakers({
      lines: strangerLines({ inHand: 16 }),
      emit: () => undefined,
      onRecovered: () => undefined,
      backoff,
    });
    let posts = 0;
    const deps = {
      store,
      circuitBreakers: breakers,
      findPause: async () => undefined,
      getDestinations: destinationsOf({ deliveriesPerEndpoint: 16, readersPerMailbox: 2 }),
      post: async () => (posts++, refused),
      emit: () => undefined,
      backoff,
      retryHours: 72,
    };
    const { signal } = new AbortController();
    const at = new Date().toISOString();
    const task = {
      version: 1,
      kind: "notify",
      mailbox: "a",
      sending: "snd_1",
      event: "sent",
      recipient: null,
      at,
    } as const;
    const perform = (_: unknown, tries: number) => notify(deps, task, tries, signal);
    const trying = { perform, backoff, maxAttempts: 1_000, onFailed: () => undefined };
    const counted: number[] = [];
    let attempts = 0;
    for (let n = 0; n < 8; n++) {
      const result = await tryTask(trying, { task, lane: "a", attempts }, signal);
      assert.equal(result.kind, "retry");
      if (result.kind === "retry") attempts = result.attempts;
      counted.push(attempts);
    }
    assert.equal(posts, 5);
    assert.deepEqual(counted, [1, 2, 3, 4, 5, 5, 5, 5]);
  } finally {
    await store.close();
  }
});
