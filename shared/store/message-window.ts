/** Bytes that were just written and are likely to be read next, so that they need not be fetched and unpacked. */

export type Fresh = {
  put(id: string, raw: Uint8Array): void;
  get(id: string): Uint8Array | undefined;
  drop(id: string): void;
};

/** What nobody came for in this time (its mailbox was removed, say) makes room when others need it. */
const FRESH_MS = 10 * 60_000;

/** Keeps up to `most` bytes; those that come when it is full are not kept, since the oldest are read first. What it gives is not to be changed. */
export function freshBytes(most: number, now: () => number = () => performance.now()): Fresh {
  const kept = new Map<string, { raw: Uint8Array; at: number }>();
  let held = 0;
  const drop = (id: string) => {
    held -= kept.get(id)?.raw.byteLength ?? 0;
    kept.delete(id);
  };
  const dropStale = () => {
    for (const [id, { at }] of kept) {
      if (at > now() - FRESH_MS) return;
      drop(id);
    }
  };
  return {
    put(id, raw) {
      drop(id);
      if (held + raw.byteLength > most) dropStale();
      if (held + raw.byteLength > most) return;
      kept.set(id, { raw, at: now() });
      held += raw.byteLength;
    },
    get: (id) => kept.get(id)?.raw,
    drop,
  };
}
