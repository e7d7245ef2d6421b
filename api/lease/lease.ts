/** The proof that this node owns a mailbox. */

/** Valid until `signal` aborts. Each new owner has a higher `fence`; the store refuses writes under an older one. */
export type Lease = { key: string; fence: number; signal: AbortSignal };

export interface Leases {
  /**
   * Waits until this node owns `key`, runs `work` under the lease, and releases it when `work` returns, throws, or the
   * signal aborts. Resolves or rejects as `work` does.
   */
  hold<T>(key: string, work: (lease: Lease) => Promise<T>, signal: AbortSignal): Promise<T>;
}
