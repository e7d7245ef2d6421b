/** The opaque tokens of delta: each stands for what the server remembers of a round, and may die at any time. */
import { randomBytes } from "node:crypto";
import { GraphError } from "../answers.ts";
import type { Folder, Mailbox } from "../store/store.ts";

/** How the server refuses a token that it no longer knows; the documents and the field know all of these. */
export type Death = "gone" | "syncStateNotFound" | "syncStateInvalid" | "resyncRequired" | "notSupported";

/** What the first request of a round asked for; the later ones cannot change it. */
export type Wanted = {
  select: string[] | undefined;
  filter: string | undefined;
  changeType: string | undefined;
};

/** Something to be reported: a message or folder, or that it is gone. */
export type Change = {
  id: string;
  /** What it was called last by ids that change with a move. */
  oldId: string;
  removed: boolean;
  /** Only its read state, categories or flag have changed. */
  thin: boolean;
};

export type Round = {
  /** The folder whose messages they are, or the mailbox whose folders. */
  of: Folder | Mailbox;
  wanted: Wanted;
  /** What a later round begins with. */
  until: number;
  /** What is to be reported, by a snapshot at the beginning of the round. */
  changes: Change[];
  /** How many of them have been reported. */
  at: number;
  /** The same for all rounds that follow from one first request. */
  chain: number;
  /** How many empty pages were given before this page. */
  empty: number;
};

/** A deltaLink has nothing to report yet. */
export type Stored = { kind: "skip"; round: Round } | { kind: "delta"; round: Round };

export type DeltaTokens = {
  keep(stored: Stored): string;
  /** Throws as the server does when it has forgotten the token. `again` is where a new round begins. */
  find(token: string, kind: Stored["kind"], again: string): Stored;
  /** All tokens given so far die in this way, or those of one kind, or those of one mailbox. */
  kill(death: Death, which?: { kind?: Stored["kind"]; mailbox?: Mailbox }): void;
  /** So many tokens of one chain are kept, and so many of all; older ones are forgotten. */
  limits: { ofChain: number; ofAll: number };
  /** A number for a new chain. */
  newChain(): number;
};

const TOKEN_LENGTH = 64;

export function newDeltaTokens(): DeltaTokens {
  const stored = new Map<string, Stored>();
  const dead = new Map<string, Death>();
  const chains = new Map<number, string[]>();
  const limits = { ofChain: Number.POSITIVE_INFINITY, ofAll: 200_000 };
  let lastChain = 0;
  return {
    limits,
    newChain: () => ++lastChain,
    keep(one) {
      const token = randomBytes((TOKEN_LENGTH * 3) / 4).toString("base64url");
      stored.set(token, one);
      if (Number.isFinite(limits.ofChain)) {
        const chain = [...(chains.get(one.round.chain) ?? []), token];
        for (const old of chain.splice(0, chain.length - limits.ofChain)) stored.delete(old);
        chains.set(one.round.chain, chain);
      }
      if (stored.size > limits.ofAll) stored.delete(stored.keys().next().value ?? "");
      return token;
    },
    find(token, kind, again) {
      const one = stored.get(token);
      const death = dead.get(token);
      if (death) throw refusal(death, again);
      // One of its own that it has forgotten.
      if (!one && token.length === TOKEN_LENGTH) throw refusal("gone", again);
      if (!one || one.kind !== kind)
        throw new GraphError({ status: 400, code: "BadRequest", message: "Badly formed token." });
      return one;
    },
    kill(death, { kind, mailbox } = {}) {
      for (const [token, one] of stored) {
        const owner = "folders" in one.round.of ? one.round.of : one.round.of.mailbox;
        if ((kind ?? one.kind) === one.kind && (mailbox ?? owner) === owner) dead.set(token, death);
      }
    },
  };
}

function refusal(death: Death, again: string): GraphError {
  const message = "The sync state generation is not found; generation=149;[highest=157][157][155][156].";
  if (death === "gone")
    return new GraphError({ status: 410, code: "SyncStateNotFound", message, headers: { Location: again } });
  if (death === "notSupported")
    return new GraphError({
      status: 400,
      code: "ErrorInvalidUrlQuery",
      message: "Parameter 'DeltaToken' not supported.",
    });
  const codes = {
    syncStateNotFound: "syncStateNotFound",
    syncStateInvalid: "syncStateInvalid",
    resyncRequired: "resyncRequired",
  };
  const status = death === "syncStateNotFound" ? 400 : 404;
  return new GraphError({ status, code: codes[death], message });
}
