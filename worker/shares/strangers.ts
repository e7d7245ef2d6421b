/** The strangers that a task waits for, by its kind and its mailbox. */
import { graphRootOf } from "../../shared/contract/graph.ts";
import type { Auth, Mailbox, Receive } from "../../shared/contract/mailbox.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Task } from "../../shared/contract/task.ts";
import { portOf } from "../../shared/places.ts";
import { getOAuth2 } from "../../shared/mail/oauth/settings.ts";
import { getSendServer } from "../../shared/mail/sending.ts";
import type { Bounds } from "./answers.ts";
import type { Destination } from "./lines.ts";

/** The destinations of one mailbox. */
export type Destinations = {
  /** The mailbox at its mail host. */
  mail: Destination;
  /** The URL that gets the messages, at its server. */
  endpoint: Destination;
  /** The URL as the target of callbacks, so that no message waits behind a callback. */
  callbacks: Destination;
  /** The mailbox's connections at the relay that it sends through. */
  relay: Destination;
};

export type GetDestinations = (mailbox: Mailbox) => Destinations;

/** The default for a mailbox. */
export const DEFAULT_SEND_CONNECTIONS = 2;
/** Small downloads use the subscription's connection, in addition to the readers' own connections. */
const SHARED_READERS = 2;
const MAIL_HOST: Bounds = { initial: 16, min: 4, max: 64 };
const RELAY: Bounds = { initial: 8, min: 2, max: 32 };
const CALLBACKS: Bounds = { initial: 4, min: 1, max: 8 };
/** How many visits an endpoint gets at first. */
const FIRST_DELIVERIES = { url: 4, server: 16 };

type Limits = { deliveriesPerEndpoint: number; readersPerMailbox: number };

/** The bounds of a mailbox depend on its settings and on these limits. */
export function destinationsOf({ deliveriesPerEndpoint, readersPerMailbox }: Limits): GetDestinations {
  const url = { initial: FIRST_DELIVERIES.url, min: Math.min(2, deliveriesPerEndpoint), max: deliveriesPerEndpoint };
  const server = { ...url, initial: FIRST_DELIVERIES.server };
  const mailbox = { initial: 1, min: 1, max: readersPerMailbox + SHARED_READERS };
  // Each is computed when it is asked for, because a message needs one or two of them.
  return (of) => ({
    get mail() {
      return {
        own: { name: `mailbox ${of.id}`, bounds: mailbox },
        site: { name: `mail host ${nameMailHost(of)}`, bounds: MAIL_HOST },
      };
    },
    get endpoint() {
      return {
        own: { name: `endpoint ${of.deliver.url}`, bounds: url },
        site: { name: `server ${originOf(of)}`, bounds: server },
      };
    },
    get callbacks() {
      return {
        own: { name: `callbacks ${of.deliver.url}`, bounds: CALLBACKS },
        site: { name: `callbacks ${originOf(of)}`, bounds: CALLBACKS },
      };
    },
    get relay() {
      const connections = of.send?.connections ?? DEFAULT_SEND_CONNECTIONS;
      return {
        own: { name: `sender ${of.id}`, bounds: { initial: connections, min: connections, max: connections } },
        site: { name: `relay ${nameRelay(of)}`, bounds: RELAY },
      };
    },
  });
}

const originOf = ({ deliver }: Mailbox) => new URL(deliver.url).origin;

/**
 * A login by OAuth2 also waits for its token server. So mailboxes with different token servers are at different sites.
 */
function nameMailHost({ address, receive }: Mailbox): string {
  const token = nameTokenServer(receive, receive.auth);
  // The servers of an application are not known here, and they are the same for all its mailboxes.
  if ("application" in receive.auth) return `application ${receive.auth.application}`;
  if (receive.protocol === "graph") return `${new URL(graphRootOf(receive)).host}${token}`;
  if (receive.protocol !== "ews") return `${receive.host.toLowerCase()}:${portOf(receive)}${token}`;
  const host = receive.url === undefined ? receive.host : new URL(receive.url).host;
  return `${(host ?? address.slice(address.indexOf("@"))).toLowerCase()}${token}`;
}

function nameRelay(mailbox: Mailbox): string {
  const token = nameTokenServer(mailbox.receive, mailbox.send?.auth ?? mailbox.receive.auth);
  try {
    return `${getSendServer(mailbox) ?? nameMailHost(mailbox)}${token}`;
  } catch (error) {
    // A mailbox that cannot send waits for nobody, because its task fails at once.
    return `of ${mailbox.id}: ${asProblem(error).code}`;
  }
}

function nameTokenServer(receive: Receive, auth: Auth): string {
  const oauth2 = getOAuth2({ receive }, auth);
  return oauth2 ? ` by ${new URL(oauth2.tokenUrl).origin}` : "";
}

/** The kinds of destinations of each kind of task, in the order of the visits. */
const DESTINATIONS: Record<Task["kind"], (keyof Destinations)[]> = {
  deliver: ["mail", "endpoint"],
  redeliver: ["endpoint"],
  afterDelivery: ["mail"],
  synchronize: ["mail"],
  callback: ["callbacks"],
  send: ["relay"],
  copy: ["mail"],
  notify: ["endpoint"],
};

/** A task for a paused endpoint does not wait for it. */
export function destinationsOfTask(of: Destinations, { kind }: Task, isEndpointPaused: boolean): Destination[] {
  const names = DESTINATIONS[kind].filter((name) => !(isEndpointPaused && name === "endpoint"));
  return names.map((name) => of[name]);
}
