/** A change of keys, as every store reports it. */

export type Rotation = {
  /** Mailboxes, and messages that wait, are parked or go out, that were encrypted again with the first key. */
  mailboxes: number;
  messages: number;
  /** Tokens of the API that were encrypted again. */
  tokens: number;
  /** Applications whose secrets were encrypted again. */
  applications: number;
  /** Messages, tokens and applications that were left as they are, because no key decrypts them. */
  unreadable: number;
  /** Ids of other keys that something may be encrypted with. When it is empty, those keys can be removed. */
  otherKeys: string[];
};

export type RotationOptions = {
  /** Encrypts also what older versions stored without a data key of its own, or without encryption. */
  everything?: boolean;
  /** Ids of keys that a running node encrypts with. They stay in use. */
  usedByOthers?: readonly string[];
  onProgress?: (sofar: Rotation) => void;
};

export function createRotation(): Rotation {
  return { mailboxes: 0, messages: 0, tokens: 0, applications: 0, unreadable: 0, otherKeys: [] };
}
