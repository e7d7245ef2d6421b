/**
 * All passwords go through this gate on their way to a server. One connection at a time sends a password. A refused one
 * is not sent again before the login schedule allows it: not by another connection, by another mailbox with the same
 * login, or by another node. The reason is that servers lock accounts after a few refused logins.
 */
import { createHash } from "node:crypto";
import type { Locks } from "../../concurrency/locks.ts";
import type { Account, PasswordLogin, RefusedLogin, RefusedLogins } from "../../contract/login.ts";
import type { Auth } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import { type Backoff, clock, sleep } from "../../time.ts";

/** `accepted`: the answer proves that the server accepted the password. */
export type Shown<T> = { value: T; accepted: boolean };

/**
 * `overlapMs` is for servers that want the password with every request. While the password is known to be good, the
 * next request waits at most this time for the answer to this one.
 */
export type ShowOptions = { overlapMs?: number };

export interface LoginGate {
  /**
   * Runs `work`, which sends the password, while nothing else sends a password of this user to that server. If `work`
   * throws an `auth` Problem, that counts as a refusal. While the next attempt is not due, it throws the last refusal
   * and does not run `work`.
   */
  show<T>(login: PasswordLogin, work: () => Promise<Shown<T>>, options: ShowOptions, signal: AbortSignal): Promise<T>;
  /** The refusal behind a Problem that `show` threw: how often in a row, and when the next attempt is due. */
  refusalOf(problem: Problem): RefusedLogin | undefined;
  /** A person wants these logins tried again. That is allowed a minute after the last refusal. */
  allowRetry(account: Account): Promise<void>;
  /** The same gate for an attempt that a person orders now. Earlier refusals do not stop it. */
  forPerson(): LoginGate;
}

/** Without a gate, passwords are sent whenever they are needed. */
export type LoginDeps = { logins?: LoginGate };

/** Runs `logIn`, which opens a connection up to its login. It goes through the gate if it sends a password. */
export async function withLoginGate<T>(
  { logins }: LoginDeps,
  { host, port }: { host: string; port: number },
  auth: Auth,
  logIn: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  if (!logins || !("password" in auth)) return logIn();
  const login = { server: `${host}:${port}`, user: auth.user, password: auth.password };
  return logins.show(login, async () => ({ value: await logIn(), accepted: true }), {}, signal);
}

export type LoginGateDeps = { locks: Locks; refusedLogins: RefusedLogins; backoff: Pick<Backoff, "login"> };

/**
 * After this many refusals in a row there is one attempt a day, or one an hour if the same password was accepted within
 * a day: then the server is more likely at fault than the password.
 */
export const LOGINS_BEFORE_ATTENTION = 3;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Longer than the logins of one user take, one after the other. */
const WAIT_MS = 10 * 60_000;
/** How long an accepted password counts as good. */
const PROVEN_MS = 60_000;

export function loginGate(deps: LoginGateDeps): LoginGate {
  return gate({ ...deps, refusals: new WeakMap(), provenLogins: provenLogins() }, false);
}

type GateDeps = LoginGateDeps & { refusals: WeakMap<Problem, RefusedLogin>; provenLogins: ProvenLogins };

function gate(deps: GateDeps, isOrdered: boolean): LoginGate {
  const { locks, refusedLogins, refusals, backoff } = deps;
  return {
    async show(login, work, { overlapMs }, signal) {
      const orderedAt = isOrdered ? clock.now() : -Infinity;
      const limits = { waitMs: WAIT_MS, what: "Logging in as this user" };
      const startWork = async () => {
        const refused = await refusedLogins.get(login);
        if (refused && refused.at > orderedAt && clock.now() < refused.until) throw toProblem(deps, refused);
        const isProven = overlapMs !== undefined && deps.provenLogins.has(login);
        const attempt = showPassword(deps, login, refused, work);
        await settledOrLate(attempt, isProven ? overlapMs : undefined);
        return { attempt };
      };
      const { attempt } = await locks.hold(lockName(login), limits, startWork, signal);
      return attempt;
    },
    refusalOf(problem) {
      for (let one: unknown = problem; one instanceof Problem; one = one.cause)
        if (refusals.has(one)) return refusals.get(one);
      return undefined;
    },
    allowRetry: (account) => refusedLogins.allowRetry(account, backoff.login(1)),
    forPerson: () => gate(deps, true),
  };
}

async function showPassword<T>(
  deps: GateDeps,
  login: PasswordLogin,
  previous: RefusedLogin | undefined,
  work: () => Promise<Shown<T>>,
): Promise<T> {
  const { refusedLogins, refusals, provenLogins: proven } = deps;
  try {
    const { value, accepted } = await work();
    if (accepted) proven.add(login);
    if (accepted && previous) await refusedLogins.remove(login);
    return value;
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== "auth") throw error;
    proven.delete(login);
    // If the store does not answer, no other connection can get the lock either.
    const refused = await recordRefusal(deps, login, error).catch(() => undefined);
    if (refused) refusals.set(error, refused);
    throw error;
  }
}

async function recordRefusal(
  { refusedLogins, backoff, provenLogins: proven }: GateDeps,
  login: PasswordLogin,
  { message: cause, evidence }: Problem,
): Promise<RefusedLogin> {
  // It is read again, because a request that overlapped with this one may have been refused too.
  const times = ((await refusedLogins.get(login))?.times ?? 0) + 1;
  const at = clock.now();
  const lastMs = proven.wasAccepted(login) ? HOUR_MS : DAY_MS;
  const until = Math.round(at + (times >= LOGINS_BEFORE_ATTENTION ? lastMs : backoff.login(times)));
  const refused = { times, at, until, cause, evidence };
  await refusedLogins.save(login, refused);
  return refused;
}

/**
 * The refusal as a Problem, for work that was not tried. Other than the work that was refused it may be tried later, at the
 * latest after the second wait of the login schedule, because a person may have corrected the login meanwhile.
 */
function toProblem({ refusals, backoff }: GateDeps, refused: RefusedLogin): Problem {
  const { cause, evidence } = refused;
  const retry = new Date(Math.min(refused.until, clock.now() + backoff.login(2)));
  const problem = new Problem("auth", cause, { retry, ...(evidence !== null && { evidence }) });
  refusals.set(problem, refused);
  return problem;
}

/** Resolves when the work has settled, or after `ms` if that is given. */
async function settledOrLate(work: Promise<unknown>, ms: number | undefined): Promise<void> {
  const settled = new AbortController();
  const settling = work.then(
    () => settled.abort(),
    () => settled.abort(),
  );
  await (ms === undefined ? settling : sleep(ms, settled.signal));
}

type ProvenLogins = ReturnType<typeof provenLogins>;

/** Logins that a server accepted in this process. */
function provenLogins() {
  /** When each was accepted, by performance.now(), the oldest first; and those that were not refused since. */
  const acceptedAt = new Map<string, number>();
  const good = new Set<string>();
  const age = (name: string) => performance.now() - (acceptedAt.get(name) ?? -Infinity);
  return {
    /** Accepted a short time ago, and not refused since. */
    has(login: PasswordLogin) {
      const name = passwordName(login);
      return good.has(name) && age(name) < PROVEN_MS;
    },
    /** Accepted within a day. */
    wasAccepted: (login: PasswordLogin) => age(passwordName(login)) < DAY_MS,
    add(login: PasswordLogin) {
      for (const name of acceptedAt.keys()) {
        if (age(name) < DAY_MS) break;
        acceptedAt.delete(name);
        good.delete(name);
      }
      const name = passwordName(login);
      acceptedAt.delete(name);
      acceptedAt.set(name, performance.now());
      good.add(name);
    },
    delete: (login: PasswordLogin) => void good.delete(passwordName(login)),
  };
}

/** One lock for all passwords of a user at a server. */
function lockName({ server, user }: PasswordLogin): string {
  return `login ${digest([server.toLowerCase(), user.toLowerCase()])}`;
}

function passwordName(login: PasswordLogin): string {
  return digest([lockName(login), login.password.reveal()]);
}

function digest(parts: string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("base64url");
}
