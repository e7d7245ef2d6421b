/**
 * Where a mailbox's secrets may be sent. A secret belongs to the places it was given for: a server with its port, TLS
 * and trust, and the account there. The store seals each secret for its places, and the API asks for it again when they
 * change.
 */
import { graphRootOf, tokenUrlOf } from "./contract/graph.ts";
import { type Auth, type Mailbox, type MailboxOf, type Receive, SECRET_PATHS } from "./contract/mailbox.ts";

/** The ports with TLS from the first byte, and without (RFC 8314 section 7.3; for EWS those of HTTP). */
const PORTS: Record<HostReceive["protocol"], [implicit: number, plain: number]> = {
  imap: [993, 143],
  pop3: [995, 110],
  ews: [443, 80],
};

/** How a mailbox is received from a server of its own. */
type HostReceive = Exclude<Receive, { protocol: "graph" }>;

/** The port to connect to, if the mailbox names a host. */
export function portOf({ protocol, port, tls }: Pick<HostReceive, "protocol" | "port" | "tls">): number {
  const [implicit, plain] = PORTS[protocol];
  return port ?? (tls === "implicit" ? implicit : plain);
}

/** The server that a mailbox receives from, as problems name it. */
export function describeServer(receive: Pick<HostReceive, "protocol" | "host" | "port" | "tls">): string {
  return `${receive.host} port ${portOf(receive)}`;
}

/** One place: names and values of everything that decides who gets the secret, and how well it is protected on the way. */
type Place = Readonly<Record<string, string | number | boolean | null>>;

/** The dotted path of a secret, and the places it may go to. */
export type SecretPlaces = { path: string; places: readonly Place[] };

/** The parts of a mailbox that decide about places. A stored mailbox has its secrets sealed, and no place holds one. */
type Placed = Pick<Mailbox, "address" | "receive" | "send" | "deliver" | "former">;

/** The places of each secret that the mailbox has, in the order of SECRET_PATHS. */
export function listSecretPlaces(mailbox: Placed): SecretPlaces[] {
  return SECRET_PATHS.filter((path) => hasMember(mailbox, path)).map((path) => ({
    path: path.join("."),
    places: placesOf(mailbox, path),
  }));
}

function placesOf(mailbox: Placed, [part, kind]: (typeof SECRET_PATHS)[number]): Place[] {
  const { receive, send, deliver } = mailbox;
  if (part === "deliver" || part === "oldSecrets") return [{ origin: originOf(deliver.url) }];
  if (kind === "dkim") return [{ domain: send?.dkim?.domain ?? null, selector: send?.dkim?.selector ?? null }];
  if (part === "former") return formerPlaces(mailbox);
  if (part === "send") return [{ ...sendingServer(mailbox), ...accountOf(mailbox, send?.auth ?? receive.auth) }];
  const account = accountOf(mailbox, receive.auth);
  const receiving = { ...receivingServer(mailbox), ...account };
  // Without a login of its own `send` uses that of `receive`.
  const sendsWithIt = send !== undefined && send.auth === undefined;
  return sendsWithIt ? [receiving, { ...sendingServer(mailbox), ...account }] : [receiving];
}

/** The place that the mailbox was received from before it moved. */
function formerPlaces({ former, ...mailbox }: Placed): Place[] {
  if (!former) return [];
  const past = { ...mailbox, receive: former.receive };
  return [{ ...receivingServer(past), ...accountOf(past, former.receive.auth) }];
}

function receivingServer({ address, receive }: Placed): Place {
  if (receive.protocol === "graph") return graphServer(receive);
  const { protocol, tls, ca = null, fingerprint = null } = receive;
  const trust = { ca, fingerprint };
  const port = portName(receive);
  if (protocol === "imap") return { protocol, host: hostName(receive.host), port, tls, ...trust };
  if (protocol === "pop3")
    return { protocol, host: hostName(receive.host), port, tls, apop: receive.apop ?? null, ...trust };
  const { host, url = null, redirects = null, scheme = null } = receive;
  const server = host === undefined ? { host: null, port: null } : { host: hostName(host), port };
  // Autodiscover finds the server by the address.
  const found = host === undefined && url === null ? { address: address.toLowerCase(), redirects } : {};
  return { protocol, ...server, tls, url, scheme, ...found, ...trust };
}

function graphServer(receive: MailboxOf<"graph">["receive"]): Place {
  const { protocol, ca = null, fingerprint = null } = receive;
  return { protocol, root: graphRootOf(receive), ca, fingerprint };
}

/** The server is named by `send`, or follows from the receiving one. */
function sendingServer(mailbox: Placed): Place {
  const { receive, send } = mailbox;
  const protocol = send?.protocol ?? receive.protocol;
  if (protocol === "ews" || protocol === "graph") return receivingServer(mailbox);
  const { host, port = null, tls = null, ca = null, fingerprint = null } = send ?? {};
  const receivingHost = ("host" in receive ? receive.host : undefined) ?? "";
  const server = host === undefined ? { derivedFrom: hostName(receivingHost) } : { host: hostName(host) };
  return { protocol: "smtp", ...server, port, tls, ca, fingerprint };
}

function accountOf({ address, receive }: Placed, auth: Auth): Place {
  const user = "user" in auth ? auth.user : graphUserOf(address, receive);
  if (!("oauth2" in auth)) return { user };
  const { clientId } = auth.oauth2;
  const tokenUrl = auth.oauth2.tokenUrl ?? (receive.protocol === "graph" ? tokenUrlOf(receive) : undefined);
  return { user, tokenUrl: tokenUrl ?? null, clientId };
}

function graphUserOf(address: string, receive: Receive): string {
  return (receive.protocol === "graph" ? receive.user : undefined) ?? address.toLowerCase();
}

/** The usual port for the kind of TLS has no number, so that stronger TLS on its usual port counts as the same place. */
function portName(receive: HostReceive): number | "usual" {
  const { port: _, ...withoutPort } = receive;
  return portOf(receive) === portOf(withoutPort) ? "usual" : portOf(receive);
}

function hostName(host: string): string {
  return host.toLowerCase().replace(/\.$/, "");
}

function originOf(url: string): string | null {
  return URL.canParse(url) ? new URL(url).origin : null;
}

function hasMember(value: unknown, [name, ...deeper]: readonly string[]): boolean {
  if (name === undefined) return value !== undefined;
  return typeof value === "object" && value !== null && hasMember((value as Record<string, unknown>)[name], deeper);
}

/**
 * The secrets of `after` that would leave the places they had in `before`: a server, port, account or trust is another,
 * or TLS is weaker. `given` says which ones came with the request; those belong to the new places.
 */
export function listMovedSecrets(before: Placed, after: Placed, given: (path: string) => boolean): string[] {
  const former = new Map(listSecretPlaces(before).map(({ path, places }) => [path, places]));
  return listSecretPlaces(after)
    .filter(({ path }) => path.includes(".auth.") && !given(path))
    .filter(({ path, places }) => !places.every((place) => isCovered(place, former.get(path) ?? [])))
    .map(({ path }) => path);
}

function isCovered(place: Place, former: readonly Place[]): boolean {
  return former.some((one) => isAsSafe(place, one) || isDerivedSending(place, one));
}

/** True if both mailboxes use their login for receiving, or their own login for sending, at the same place. */
export function isSameLoginPlace(one: Placed, other: Placed, part: "receive" | "send"): boolean {
  const [place, otherPlace] = [one, other].map((mailbox) => {
    const login = listSecretPlaces(mailbox).find(({ path }) => path.startsWith(`${part}.auth.`));
    return JSON.stringify(login?.places.slice(0, 1).map(sorted));
  });
  return place === otherPlace;
}

const TLS_STRENGTH = ["none", "starttls", "implicit"];

/** True for the same place, also with stronger TLS. */
function isAsSafe({ tls, ...place }: Place, { tls: formerTls, ...former }: Place): boolean {
  const isSame = JSON.stringify(sorted(place)) === JSON.stringify(sorted(former));
  return isSame && (tls === formerTls || (formerTls !== null && strength(tls) > strength(formerTls)));
}

function strength(tls: Place[string] | undefined): number {
  return TLS_STRENGTH.indexOf(String(tls));
}

/**
 * True if the service itself finds the sending server of the same account from the receiving host, with TLS and the
 * usual trust. The request names nothing of it.
 */
function isDerivedSending(place: Place, { host, user, tokenUrl, clientId }: Place): boolean {
  const derived = { protocol: "smtp", derivedFrom: host, port: null, tls: null, ca: null, fingerprint: null };
  const account = tokenUrl === undefined ? { user } : { user, tokenUrl, clientId };
  return isAsSafe(place, { ...derived, ...account } as Place);
}

function sorted(place: Place): [string, Place[string]][] {
  return Object.entries(place).toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/** A text that is the same only for the same places: the store seals a secret together with it. */
export function describePlaces({ places }: SecretPlaces): string {
  return JSON.stringify(places.map(sorted));
}
