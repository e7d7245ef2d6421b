/** Tokens of the API, who a request comes from, and the record of what callers changed. */
import * as v from "valibot";

/**
 * read: see mailboxes, deliveries, messages, sendings and facts; manage: register and change mailboxes, replay and drop
 * what is parked; send: send messages; metrics: read /metrics; admin: everything, also tokens, nodes and the audit.
 */
export const TokenScope = v.picklist(["read", "manage", "send", "admin", "metrics"]);
export type TokenScope = v.InferOutput<typeof TokenScope>;

/**
 * A stored token. `hash` is the SHA-256 of the whole token in hex; the token itself is not stored. `mailboxPrefix`
 * binds it to the mailboxes whose ids begin so; "" means all mailboxes. `createdBy` is the id of the actor that made it.
 * `lastUsedAt` is at most a minute late.
 */
export const Token = v.object({
  id: v.string(),
  name: v.string(),
  scopes: v.array(TokenScope),
  mailboxPrefix: v.string(),
  hash: v.string(),
  createdAt: v.string(),
  createdBy: v.string(),
  expiresAt: v.nullable(v.string()),
  lastUsedAt: v.nullable(v.string()),
});
export type Token = v.InferOutput<typeof Token>;

/** Who makes a request. `id` is a token's id, or it names a setting: `API_TOKENS#1` is the first token there. */
export type Actor = Pick<Token, "id" | "name" | "scopes" | "mailboxPrefix">;

/**
 * One change that a caller of the API made. `route` is the template of the path, `target` the id in the path.
 * `changed` has names of fields and no values. `status` is that of the answer, null if the node ended before it knew.
 */
export const AuditEntry = v.object({
  id: v.string(),
  at: v.string(),
  actor: v.object({ id: v.string(), name: v.string() }),
  method: v.string(),
  route: v.string(),
  target: v.nullable(v.string()),
  mailbox: v.nullable(v.string()),
  changed: v.array(v.string()),
  status: v.nullable(v.number()),
});
export type AuditEntry = v.InferOutput<typeof AuditEntry>;
