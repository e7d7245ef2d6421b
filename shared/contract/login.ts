/** Logins with a password, and the record of those that a server refused. */
import * as v from "valibot";
import type { Evidence } from "./evidence.ts";
import type { Secret } from "./secret.ts";

/** A user and a password, at whatever server. */
export type Account = { user: string; password: Secret };
/** The same, and the server it is sent to. `server` is host and port. */
export type PasswordLogin = Account & { server: string };

/**
 * A password that the server refused: how often in a row, when last, and until when it is not sent again (ms since
 * 1970). `cause` and `evidence` are those of the Problem.
 */
export const RefusedLogin = v.object({
  times: v.number(),
  at: v.number(),
  until: v.number(),
  cause: v.string(),
  evidence: v.nullable(v.custom<Evidence>((value) => typeof value === "string")),
});
export type RefusedLogin = v.InferOutput<typeof RefusedLogin>;

/** Refused logins, shared by all nodes. User names are compared without regard to case. */
export interface RefusedLogins {
  get(login: PasswordLogin): Promise<RefusedLogin | undefined>;
  /** The record is kept until two days after `until`, so that the next refusal continues the count. */
  save(login: PasswordLogin, refused: RefusedLogin): Promise<void>;
  /** Called when the server has accepted the password. */
  remove(login: PasswordLogin): Promise<void>;
  /**
   * A person wants the logins of this user with this password tried again. Their counts start again at 0, and they may
   * be tried once `minMs` have passed since the last refusal. Other passwords of the user keep their counts: they belong
   * to mailboxes of others.
   */
  allowRetry(account: Account, minMs: number): Promise<void>;
}
