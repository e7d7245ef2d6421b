/** A cache of bytes that were just written and will probably be read next. It saves reading and decompressing them. */

export type MessageWindow = {
  put(id: string, raw: Uint8Array): void;
  get(id: string): Uint8Array | undefined;
  drop(id: string): void;
};

/** Bytes that nobody read in this time (for example because the mailbox was removed) make room when others need it. */
const STALE_AFTER_MS = 10 * 60_000;

/**
 * Keeps up to `maxBytes`. It does not keep bytes that come when it is full, because the oldest are read first. Callers
 * must not change the returned bytes.
 */
export function messageWindow(maxBytes: number, now: () => number = () => performance.now()): MessageWindow {
  const entries = new Map<string, { raw: Uint8Array; at: number }>();
  let usedBytes = 0;
  const drop = (id: string) => {
    usedBytes -= entries.get(id)?.raw.byteLength ?? 0;
    entries.delete(id);
  };
  const dropStale = () => {
    for (const [id, { at }] of entries) {
      if (at > now() - STALE_AFTER_MS) return;
      drop(id);
    }
  };
  return {
    put(id, raw) {
      drop(id);
      if (usedBytes + raw.byteLength > maxBytes) dropStale();
      if (usedBytes + raw.byteLength > maxBytes) return;
      entries.set(id, { raw, at: now() });
      usedBytes += raw.byteLength;
    },
    get: (id) => entries.get(id)?.raw,
    drop,
  };
}
