/** Brings the hints of Microsoft Graph from the node that was called to the node that watches the mailbox. */
import type { Hint, HintChannel } from "../shared/mail/graph/notifications/hints.ts";
import type { GraphPush } from "../shared/mail/graph/notifications/push.ts";

export interface HintRelay extends Pick<GraphPush, "isGenuine"> {
  /** Never waits and never throws. */
  give(mailbox: string, hint: Hint): void;
}

/** Hints for other nodes go out together after this time. */
const GATHER_MS = 100;
const MAX_HINTS = 500;
/** More are dropped: Redis is away, or slower than Graph. */
const MAX_WAITING = 20_000;

/** `channel` is undefined on a single node. */
export function hintRelay({ hints, isGenuine }: GraphPush, channel: HintChannel | undefined): HintRelay {
  const waiting = new Map<string, [string, Hint]>();
  let sending = false;
  channel?.subscribe((heard) => {
    for (const [mailbox, hint] of heard) hints.give(mailbox, hint);
  });
  const send = async (to: HintChannel) => {
    while (waiting.size > 0) {
      await new Promise((resolve) => setTimeout(resolve, GATHER_MS).unref());
      const batch = [...waiting].slice(0, MAX_HINTS);
      for (const [key] of batch) waiting.delete(key);
      // Redis is away, and the heartbeat says so.
      await to.publish(batch.map(([, hint]) => hint)).catch(() => undefined);
    }
  };
  return {
    isGenuine,
    give(mailbox, hint) {
      if (hints.give(mailbox, hint) || !channel || waiting.size >= MAX_WAITING) return;
      waiting.set(`${hint} ${mailbox}`, [mailbox, hint]);
      if (sending) return;
      sending = true;
      void send(channel).finally(() => (sending = false));
    },
  };
}
