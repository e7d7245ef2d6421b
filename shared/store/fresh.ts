/** Bytes that were just written and are likely to be read next, so that they need not be fetched and unpacked. */

export type Fresh = {
  put(id: string, raw: Uint8Array): void;
  get(id: string): Uint8Array | undefined;
  drop(id: string): void;
};

/** Keeps the newest, up to `most` bytes. What it gives is not to be changed. */
export function freshBytes(most: number): Fresh {
  const kept = new Map<string, Uint8Array>();
  let held = 0;
  const drop = (id: string) => {
    held -= kept.get(id)?.byteLength ?? 0;
    kept.delete(id);
  };
  return {
    put(id, raw) {
      drop(id);
      if (raw.byteLength > most) return;
      kept.set(id, raw);
      held += raw.byteLength;
      for (const oldest of kept.keys()) {
        if (held <= most) return;
        drop(oldest);
      }
    },
    get: (id) => kept.get(id),
    drop,
  };
}
