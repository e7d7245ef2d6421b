/** What all Exchange mailboxes of a process share: connections by account, where mailboxes were found, and who asked to be left alone. */
import { createHmac, randomBytes } from "node:crypto";
import { cookieJar } from "./transport/cookies.ts";
import type { Account } from "./transport/http.ts";
import { type EwsHints, ewsHints } from "./notifications/pool.ts";
import { type LineDeps, type Lines, linesTo, type Refusal, type Target } from "./lines.ts";
import { type Places, placeMemory } from "./autodiscover/locate.ts";
import { VERSIONS } from "./client/envelope.ts";

/** What is alike for all requests of an account: who pays, whom to trust; and the mailbox that asks for it. */
export type AccountOf = { key: string; trust: Pick<Target, "ca" | "fingerprint">; mailbox: string };

export interface Exchange {
  readonly places: Places;
  readonly busy: Busy;
  readonly hints: EwsHints;
  /** A word for a secret, of no use to anybody outside this process. */
  mark(secret: string): string;
  /** The account's connections, shared by all who use it; `over` must be called once, and closes them after the last. */
  account(deps: LineDeps, of: AccountOf): { account: Account; over: () => void };
}

/** Until when somebody is not to be asked, because the server said so. */
export interface Busy {
  until(who: string): Date | undefined;
  note(who: string, until: Date): void;
}

/** Made once in a process. Nothing is opened before the first mailbox. */
export function exchange(): Exchange {
  const key = randomBytes(32);
  const accounts = new Map<string, { account: Account; users: number; close: () => void }>();
  const refusals = new Map<string, Refusal>();
  return {
    places: placeMemory(),
    busy: busyTimes(),
    hints: ewsHints(),
    mark: (secret) => createHmac("sha256", key).update(secret).digest("base64url").slice(0, 16),
    account(deps, of) {
      const found = accounts.get(of.key) ?? { ...accountOver(deps, of, refusals), users: 0 };
      accounts.set(of.key, found);
      found.users++;
      let left = false;
      const over = () => {
        if (left) return;
        left = true;
        if (--found.users > 0) return;
        accounts.delete(of.key);
        found.close();
      };
      return { account: found.account, over };
    },
  };
}

/** Refusals outlive the account: its mailboxes may come one after the other. Whose password was refused itself may try again. */
function accountOver(
  deps: LineDeps,
  { key, trust, mailbox }: AccountOf,
  refusals: Map<string, Refusal>,
): { account: Account; close: () => void } {
  const servers = new Map<string, Lines>();
  const linesOf = (url: URL): Lines => {
    const found = servers.get(url.origin);
    if (found) return found;
    const secure = url.protocol === "https:";
    const port = Number(url.port) || (secure ? 443 : 80);
    const made = linesTo(deps, { ca: trust.ca, fingerprint: trust.fingerprint, host: url.hostname, port, secure });
    servers.set(url.origin, made);
    const earlier = refusals.get(`${key} ${url.origin}`);
    if (earlier && earlier.mailbox !== mailbox) made.refused = earlier;
    return made;
  };
  const close = () => {
    for (const [at, { until }] of refusals) if (until < performance.now()) refusals.delete(at);
    for (const [origin, lines] of servers) {
      lines.close();
      if (lines.refused) refusals.set(`${key} ${origin}`, lines.refused);
    }
  };
  const { command } = deps.timeouts;
  const [version] = VERSIONS;
  return { account: { key, linesTo: linesOf, cookies: cookieJar(), command, version }, close };
}

function busyTimes(): Busy {
  const times = new Map<string, number>();
  return {
    until(who) {
      const at = times.get(who);
      if (at === undefined) return undefined;
      if (at > Date.now()) return new Date(at);
      times.delete(who);
      return undefined;
    },
    note(who, until) {
      times.set(who, Math.max(times.get(who) ?? 0, until.getTime()));
    },
  };
}
