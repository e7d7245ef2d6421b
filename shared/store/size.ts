/** How large a store is. */

/** `limitBytes` is null if nobody knows a limit. */
export type StoreSize = { usedBytes: number; limitBytes: number | null };
