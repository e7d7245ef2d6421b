/** Proof that this node owns a mailbox. */

/** Valid until `signal` aborts. `fence` only grows from owner to owner; the store refuses writes under an older one. */
export type Lease = { key: string; fence: number; signal: AbortSignal };

export interface Leases {
  /**
   * Waits until this node owns `key`, runs `work` under the lease and gives it up when `work` returns, throws, or the
   * signal aborts. Resolves or rejects as `work` does.
   */
  hold<T>(key: string, work: (lease: Lease) => Promise<T>, signal: AbortSignal): Promise<T>;
}
