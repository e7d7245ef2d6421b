/** The connection of a mailbox: what it was told to do, and what is known of its server. */
import { html } from "hono/html";
import type { Mailbox } from "../../../shared/contract/mailbox.ts";
import { afterDeliveryOf, isPolled } from "../../../shared/mail/defaults.ts";
import { portOf } from "../../../shared/places.ts";
import { clock } from "../../../shared/time.ts";
import type { ConnectionView } from "../../records/connection.ts";
import type { Html } from "../html.ts";
import type { Cell } from "./parts.ts";
import { serverHost, type ShownMailbox } from "./shown-mailbox.ts";
import { foreign, relativeTime } from "./words.ts";

export function connectionFacts(item: ShownMailbox, connection: ConnectionView | undefined): Html {
  const { mailbox, state } = item;
  const facts: [string, Cell][] = [
    ...receivingFacts(mailbox),
    ...serverFacts(connection),
    ["Endpoint", mailbox.deliver.url],
    ["Form", `${mailbox.deliver.dialect}, ${mailbox.deliver.format}`],
    ["Node", state.node ?? "none"],
    ["Id", mailbox.id],
    ["Registered", relativeTime(mailbox.createdAt)],
    ["Changed", html`${relativeTime(mailbox.updatedAt)}, revision ${mailbox.revision}`],
  ];
  return html`<dl>
    ${facts.map(
      ([name, value]) =>
        html`<dt>${name}</dt>
          <dd>${value}</dd>`,
    )}
  </dl>`;
}

function receivingFacts(mailbox: Mailbox): [string, Cell][] {
  const { receive } = mailbox;
  const login = "password" in receive.auth ? "password" : "application" in receive.auth ? "application" : "OAuth2";
  const port = receive.protocol !== "graph" && receive.host !== undefined ? `:${portOf(receive)}` : "";
  const tls = "tls" in receive ? `, TLS ${receive.tls}` : "";
  const folders = "folders" in receive ? [receive.folders].flat().join(", ") : "its maildrop";
  const poll = "everySeconds" in receive.poll ? `every ${receive.poll.everySeconds} s` : `at ${receive.poll.cron}`;
  const after = afterDeliveryOf(receive);
  return [
    ["Protocol", `${receive.protocol}, ${isPolled(receive) ? `polled ${poll}` : "push"}`],
    ["Server", `${serverHost(mailbox)}${port}${tls}`],
    ["Login", "user" in receive.auth ? `${receive.auth.user} by ${login}` : `by ${login}`],
    ["Folders", foreign(folders)],
    ["Mail since", receive.since],
    ["After delivery", typeof after === "string" ? after : foreign(JSON.stringify(after))],
  ];
}

/** As the node that holds the connection wrote it when it changed last. */
function serverFacts(connection: ConnectionView | undefined): [string, Cell][] {
  if (!connection) return [["The server says", "nothing is known: it was never connected"]];
  const { server, capabilities, tls, token, since, connections, throttledUntil } = connection;
  const facts: [string, Cell | null][] = [
    ["The server says", server === null ? "nothing of itself" : foreign(server)],
    ["It offers", capabilities.length === 0 ? null : foreign(capabilities.join(" "))],
    ["Encryption", tls === null ? "none" : html`${tls.version}${certificateEnd(tls.certificateEndsAt)}`],
    ["Token", token && html`It ends ${relativeTime(token.endsAt)}. ${renewal(token.renewsAt)}`],
    ["Asked to wait", throttledUntil === null ? null : html`The next attempt is ${relativeTime(throttledUntil)}.`],
    ["Connections now", String(connections)],
    ["All this since", relativeTime(since)],
  ];
  return facts.flatMap(([name, value]): [string, Cell][] => (value === null ? [] : [[name, value]]));
}

function certificateEnd(endsAt: string | null): Html | string {
  return endsAt === null ? "" : html`; the certificate ends ${relativeTime(endsAt)}`;
}

function renewal(renewsAt: string): Html | string {
  if (Date.parse(renewsAt) <= clock.now()) return "The next login or request takes a new one.";
  return html`A new one is taken ${relativeTime(renewsAt)} or later.`;
}
