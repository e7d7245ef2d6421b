/** What a subscription hears of its folders between two looks: hints add up, and wake whoever waits. */
import type { FolderId } from "ews-javascript-api";
import { slept } from "../../../time.ts";
import type { EwsHints } from "./pool.ts";
import type { EwsSession } from "../client/session.ts";

/** Folders in which something appeared, by their ids; `all` where one cannot tell. */
export type Stirred = ReadonlySet<string> | "all";

export interface Ear {
  /** Whether the server tells by itself what happens; undefined as long as that is being found out. */
  readonly push: boolean | undefined;
  /** Follows these folders from now on, and no others. */
  follow(folders: FolderId[] | "all"): void;
  /**
   * What stirred since the last call; waits for it until `until` (as performance.now() counts). Throws the Problem that ended the
   * following.
   */
  listen(until: number): Promise<Stirred>;
  /** Stops following, and resolves when that is over. */
  close(): Promise<void>;
}

/** An ear for one mailbox. `heard` is called whenever the server was heard. */
export function earFor(hints: EwsHints, session: EwsSession, heard: () => void, signal: AbortSignal): Ear {
  let stirred: Stirred = new Set();
  let push: boolean | undefined;
  let failure: { error: unknown } | undefined;
  let wake: (() => void) | undefined;
  let over = new AbortController();
  let following: Promise<void> = Promise.resolve();

  const hint = (folders: readonly string[] | "all") => {
    stirred = folders === "all" || stirred === "all" ? "all" : new Set([...stirred, ...folders]);
    wake?.();
  };
  const told = (sign: { kind: "heard" } | { kind: "how"; push: boolean }) => {
    if (sign.kind === "heard") return heard();
    push = sign.push;
    wake?.();
  };
  const run = async (folders: FolderId[] | "all", life: AbortSignal) => {
    try {
      await hints.follow(session, folders, hint, told, life);
    } catch (error) {
      if (life.aborted) return;
      failure = { error };
      wake?.();
    }
  };

  return {
    get push() {
      return push;
    },
    follow(folders) {
      over.abort();
      over = new AbortController();
      const before = following;
      const life = AbortSignal.any([signal, over.signal]);
      following = Promise.all([before, run(folders, life)]).then(() => undefined);
    },
    async listen(until) {
      if (!failure && stirred !== "all" && stirred.size === 0) {
        const woken = new AbortController();
        wake = () => woken.abort();
        await slept(Math.max(0, until - performance.now()), AbortSignal.any([signal, woken.signal]));
        wake = undefined;
      }
      if (failure) throw failure.error;
      const heardOf = stirred;
      stirred = new Set();
      return heardOf;
    },
    async close() {
      over.abort();
      await following;
    },
  };
}
