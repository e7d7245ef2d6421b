/** Which mailboxes are enabled, that is: registered and not paused. */

export type EnabledMailbox = { id: string; revision: number };

/** Reads which mailboxes are enabled once, and then only the changes. It serves one caller. */
export interface EnabledFollower {
  /**
   * The changes since the last call, of any node: each changed mailbox once, with revision 0 if it is not enabled any
   * more. It costs what has changed, not what there is. With `whole` it lists every enabled mailbox, as at the first
   * call, with `whole: true`, and also when the store no longer knows the changes since the last call.
   */
  next(options?: { whole?: boolean }): Promise<{ whole: boolean; mailboxes: EnabledMailbox[] }>;
}
