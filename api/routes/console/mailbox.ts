/** /mailboxes/{id}: one mailbox, and what its buttons do by calls of the API. */
import * as v from "valibot";
import { clock } from "../../../shared/time.ts";
import { MAIL_TIMEOUT_MS } from "../../http/mail-problems.ts";
import { notFound } from "../../http/problems.ts";
import type { Route } from "../../http/route.ts";
import { deleteBody, lookBody, mailboxBody, testBody } from "../../pages/console/mailbox.ts";
import { queryOf } from "../../pages/console/parts.ts";
import { readProofs, showMailbox, type ShownMailbox } from "../../pages/console/shown-mailbox.ts";
import { PreflightReportView } from "../mailbox-actions.ts";
import { readConnection } from "../../records/connection.ts";
import { getMailbox } from "../mailboxes.ts";
import { showDeliveries } from "./paused.ts";
import { measureRows } from "./measured/rows.ts";
import { action, type ConsoleCall, type ConsoleDeps, page, seeOther } from "./page.ts";

const SHOWN_FACTS = 200;
const SHOWN_DELIVERIES = 10;
const LONGEST_MESSAGE_ID = 900;
const Resynced = v.object({ messages: v.number() });

export function mailboxRoutes(deps: ConsoleDeps): Route[] {
  return [
    page(deps, "/mailboxes/{id}", showOne),
    page(deps, "/mailboxes/{id}/delete", askDelete),
    action(deps, "/mailboxes/{id}/delete", remove),
    action(deps, "/mailboxes/{id}/test", testOne),
    action(deps, "/mailboxes/{id}/look", look),
    action(deps, "/mailboxes/{id}/resync", resync),
    ...(["pause", "resume", "confirm"] as const).map((change) =>
      action(deps, `/mailboxes/{id}/${change}`, async (call) => {
        await call.api("POST", `${apiPath(call)}/${change}`);
        return backTo(call, change);
      }),
    ),
  ];
}

const apiPath = ({ id }: ConsoleCall) => `/api/v1/mailboxes/${encodeURIComponent(id)}`;

function backTo({ base, id }: ConsoleCall, done: string, count = 1): Response {
  return seeOther(`${base}/mailboxes/${encodeURIComponent(id)}${queryOf({ done, n: String(count) })}`);
}

async function findMailbox({ deps, id }: ConsoleCall): Promise<ShownMailbox> {
  return showMailbox(await getMailbox(deps.store, id), await readProofs(deps));
}

async function showOne(call: ConsoleCall): Promise<Response> {
  const [item] = await measureRows(call.deps, [await findMailbox(call)]);
  if (!item) throw notFound("mailbox", call.id);
  const { id } = item.mailbox;
  const { facts, deliveries, cursors, outbox } = call.deps.store;
  const [recent, newest, parked, known, outgoing, connection] = await Promise.all([
    facts.recent(id, SHOWN_FACTS),
    deliveries.list({ mailbox: id, limit: SHOWN_DELIVERIES }),
    deliveries.list({ mailbox: id, state: "parked", limit: 1 }),
    cursors.read(id),
    outbox.list({ mailbox: id, limit: SHOWN_DELIVERIES }),
    readConnection(call.deps.store, item),
  ]);
  const shown = { ...newest, items: await showDeliveries(call.deps, newest.items) };
  const view = { base: call.base, query: call.query, item, facts: recent, deliveries: shown, parked: parked.total };
  const today = new Date(clock.now()).toISOString().slice(0, 10);
  const body = mailboxBody({ ...view, cursors: known, outgoing, connection, mayManage: call.may("manage"), today });
  return call.render({ title: item.mailbox.address, isLive: true, body });
}

async function askDelete(call: ConsoleCall): Promise<Response> {
  const item = await findMailbox(call);
  const count = async (state: "parked" | "retrying") =>
    (await call.deps.store.deliveries.list({ mailbox: item.mailbox.id, state, limit: 1 })).total;
  const waiting = (await count("parked")) + (await count("retrying"));
  return call.render({ title: "Delete a mailbox", body: deleteBody(call.base, item, waiting) });
}

async function remove(call: ConsoleCall): Promise<Response> {
  await call.api("DELETE", apiPath(call));
  return seeOther(`${call.base}/mailboxes${queryOf({ done: "remove" })}`);
}

/** The preflight of the mailbox as it is stored. Nothing is changed. */
async function testOne(call: ConsoleCall): Promise<Response> {
  const item = await findMailbox(call);
  const report = v.parse(PreflightReportView, await (await call.api("POST", `${apiPath(call)}/test`)).json());
  return call.render({ title: `Test of ${item.mailbox.address}`, body: testBody(call.base, item, report) });
}

/** Asks the mail server for a Message-ID, and says how far each message with it has come. */
async function look(call: ConsoleCall): Promise<Response> {
  const item = await findMailbox(call);
  const given = (call.form.get("messageId") ?? "").trim().slice(0, LONGEST_MESSAGE_ID);
  const messageId = `<${given.replace(/^<|>$/g, "")}>`;
  const [found, cursors] = await Promise.all([
    call.deps.mail.findMessage(item.mailbox, messageId, call.signal(MAIL_TIMEOUT_MS)),
    call.deps.store.cursors.read(item.mailbox.id),
  ]);
  const body = lookBody(call.base, item, { messageId, found, cursors });
  return call.render({ title: "Look on the server", body });
}

async function resync(call: ConsoleCall): Promise<Response> {
  const answer = await call.api("POST", `${apiPath(call)}/resync`, { since: call.form.get("since") ?? "" });
  return backTo(call, "resync", v.parse(Resynced, await answer.json()).messages);
}
