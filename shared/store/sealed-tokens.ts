/**
 * Tokens of the API as they are stored: each encrypted with a key of ENCRYPTION_KEYS for its id. So whoever can write to
 * the store, but has no key, can neither add a token nor give one more scopes, more mailboxes or more time.
 */
import * as v from "valibot";
import { Problem } from "../contract/problem.ts";
import { Token } from "../contract/token.ts";
import type { Vault } from "./vault.ts";

/** A stored token. `lastUsedAt` lies beside it in clear, because it changes with its use and decides nothing. */
export type StoredToken = { id: string; sealed: string; lastUsedAt: string | null };

/** `unreadable` are the ids of stored tokens that no key decrypts. They are not accepted. */
export type TokenList = { tokens: Token[]; unreadable: string[] };

/** The tokens of the API that clients made. All nodes see a change at once, because nobody caches them. */
export interface Tokens {
  /** Adds a token durably. Throws `conflict` when there are 1,000. */
  add(token: Token): Promise<void>;
  /** Throws `config` for a token that no key decrypts, or that was not stored by the service. */
  get(id: string): Promise<Token | undefined>;
  /** All tokens, the oldest first. */
  list(): Promise<TokenList>;
  /** Removes a token durably. False if there was none. */
  remove(id: string): Promise<boolean>;
  /** Sets `lastUsedAt`. Does nothing for a token that does not exist. */
  recordUse(id: string, at: string): Promise<void>;
}

export function sealToken(token: Token, by: Vault): string {
  return by.seal(JSON.stringify({ ...token, lastUsedAt: null }), bindingOf(token.id));
}

/** Throws `config` when its key is missing, and when a key holder did not write it for this id. */
export function openToken({ id, sealed, lastUsedAt }: StoredToken, by: Vault): Token {
  const token = v.parse(Token, JSON.parse(by.open(sealed, bindingOf(id))));
  return { ...token, lastUsedAt };
}

export function openTokens(stored: readonly StoredToken[], by: Vault): TokenList {
  const list: TokenList = { tokens: [], unreadable: [] };
  for (const one of stored) {
    const token = openIfReadable(one, by);
    if (token) list.tokens.push(token);
    else list.unreadable.push(one.id);
  }
  return list;
}

function openIfReadable(stored: StoredToken, by: Vault): Token | undefined {
  try {
    return openToken(stored, by);
  } catch (error) {
    if (error instanceof Problem && error.code === "config") return undefined;
    throw error;
  }
}

/**
 * What is to be written anew, because another key than the first encrypted it, and how many tokens no key decrypts.
 * `save` resolves false if the stored token is no longer the same.
 */
export async function resealTokens(
  stored: readonly StoredToken[],
  by: Vault,
  save: (old: StoredToken, sealed: string) => boolean | Promise<boolean>,
): Promise<{ resealed: number; unreadable: number }> {
  const counts = { resealed: 0, unreadable: 0 };
  for (const one of stored.filter(({ sealed }) => !by.isSealedByFirst(sealed))) {
    const token = openIfReadable(one, by);
    if (!token) counts.unreadable += 1;
    else if (await save(one, sealToken(token, by))) counts.resealed += 1;
  }
  return counts;
}

/** No id of a mailbox has a space, so no secret of a mailbox is sealed so. */
function bindingOf(id: string): string {
  return `token of the API|${id}`;
}
