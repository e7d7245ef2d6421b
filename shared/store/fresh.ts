/** Bytes that were just written and are likely to be read next, so that they need not be fetched and unpacked. */

export type Fresh = {
  put(id: string, raw: Uint8Array): void;
  get(id: string): Uint8Array | undefined;
  drop(id: string): void;
};

/** Keeps up to `most` bytes; those that come when it is full are not kept, since the oldest are read first. What it gives is not to be changed. */
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
      if (held + raw.byteLength > most) return;
      kept.set(id, raw);
      held += raw.byteLength;
    },
    get: (id) => kept.get(id),
    drop,
  };
}
