/** Where an Exchange mailbox is served: as the mailbox says, or as autodiscover found it, remembered until it turns out to be wrong. */
import type { MailboxOf } from "../../../contract/mailbox.ts";
import { Problem } from "../../../contract/problem.ts";
import { discovered } from "./autodiscover.ts";
import type { Exchange } from "../account.ts";
import { ewsHttp } from "../transport/http.ts";
import type { LineDeps } from "../lines.ts";
import type { Login } from "../transport/authentication.ts";

/** The address of the web services; `grouping` names the servers that may share a stream of events, where autodiscover tells it. */
export type Place = { url: string; grouping: string | null };

/** What autodiscover found, by address and settings. */
export interface Places {
  known(key: string): Place | undefined;
  keep(key: string, place: Place): void;
  forget(key: string): void;
}

const MOST = 10_000;
const TRUSTED_MS = 24 * 60 * 60_000;

/** Places found in the last day. */
export function placeMemory(): Places {
  const places = new Map<string, { place: Place; until: number }>();
  return {
    known(key) {
      const found = places.get(key);
      return found && found.until > Date.now() ? found.place : undefined;
    },
    keep(key, place) {
      if (places.size >= MOST) places.clear();
      places.set(key, { place, until: Date.now() + TRUSTED_MS });
    },
    forget: (key) => void places.delete(key),
  };
}

/** The place that the mailbox itself names; undefined where it has to be found. */
function namedPlace({ receive }: MailboxOf<"ews">): Place | undefined {
  if (receive.url !== undefined) return { url: receive.url, grouping: null };
  if (receive.host === undefined) return undefined;
  const scheme = receive.tls === "none" ? "http" : "https";
  const port = receive.port === undefined ? "" : `:${receive.port}`;
  return { url: `${scheme}://${receive.host}${port}/EWS/Exchange.asmx`, grouping: null };
}

/** A place, and what a problem there means: where autodiscover found it earlier it is forgotten, and worth looking for again. */
export type Found = { place: Place; doubted: (problem: Problem) => Problem };

type Deps = LineDeps & { exchange: Exchange };

/** The mailbox's place; looked for by autodiscover where nobody names it, and nobody found it within a day. */
export async function placeOf(
  deps: Deps,
  mailbox: MailboxOf<"ews">,
  login: Login,
  signal: AbortSignal,
): Promise<Found> {
  const named = namedPlace(mailbox);
  if (named) return { place: named, doubted: (problem) => problem };
  const { places } = deps.exchange;
  const key = accountKey(deps.exchange, mailbox, `${mailbox.address} ${mailbox.receive.redirects ?? ""}`);
  const known = places.known(key);
  const place = known ?? (await searched(deps, mailbox, login, signal));
  if (!known) places.keep(key, place);
  const doubted = (problem: Problem) => {
    places.forget(key);
    const { code, message, evidence } = problem;
    if (!known || code === "auth") return problem;
    return new Problem(code, message, { retry: "later", cause: problem, ...(evidence !== null && { evidence }) });
  };
  return { place, doubted };
}

async function searched(deps: Deps, mailbox: MailboxOf<"ews">, login: Login, signal: AbortSignal): Promise<Place> {
  const { address, receive } = mailbox;
  const key = accountKey(deps.exchange, mailbox, "autodiscover");
  const { account, over } = deps.exchange.account(deps, { key, trust: receive, mailbox: mailbox.id });
  const search = {
    http: ewsHttp(account, login),
    stranger: ewsHttp(account, "nobody"),
    command: deps.timeouts.command,
    ports: { secure: receive.port ?? 443, plain: 80 },
  };
  try {
    return await discovered(search, { address, redirects: receive.redirects }, signal);
  } finally {
    over();
  }
}

/** Who is meant by an account at a server: its login and how it proves itself, or the application where that acts for itself. */
export function accountKey(exchange: Pick<Exchange, "mark">, { receive }: MailboxOf<"ews">, server: string): string {
  const { auth, ca, fingerprint, scheme } = receive;
  const acting = "oauth2" in auth && !auth.oauth2.refreshToken ? auth.oauth2.clientId : auth.user;
  const secret = "password" in auth ? auth.password.reveal() : "";
  const told = exchange.mark(JSON.stringify([secret, ca, fingerprint, scheme]));
  return [acting.toLowerCase(), server, told].join(" ");
}
