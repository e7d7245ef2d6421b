/**
 * Tries a Graph mailbox's settings step by step. Each step is a real request, because the claims of a token prove
 * nothing: with RBAC for Applications a good token names no permission.
 */
import { graphRootOf } from "../../contract/graph.ts";
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import { afterDeliveryOf } from "../defaults.ts";
import type { PreflightReport } from "../mail.ts";
import { checkWebServer, type PreflightRun, preflightRun, runStep } from "../preflight-steps.ts";
import { withApplication } from "./client/application.ts";
import { describePermissions } from "./client/claims.ts";
import { listRows, withQuery } from "./client/pages.ts";
import { type GraphDeps, type GraphSession, openGraph } from "./client/session.ts";
import { createDraft, deleteDraft } from "./sending/drafts.ts";
import { getFolder, getWatchList } from "./sync/folders.ts";
import { MessageRow } from "./sync/messages.ts";

type Attempt = PreflightRun<MailboxOf<"graph">>;

/** A larger message proves as much by its first bytes. */
const PROOF_BYTES = 1024 * 1024;
const MAX_SHOWN = 20;

/**
 * Connects, takes a token, opens the inbox, reads the folders and one message. Reports every step up to the first
 * failure that makes the rest impossible. The mailbox is as before; for changes after the delivery a draft is made and deleted. Throws only when the signal aborts.
 */
export async function preflight(
  deps: GraphDeps,
  mailbox: MailboxOf<"graph">,
  signal: AbortSignal,
): Promise<PreflightReport> {
  const attempt: Attempt = preflightRun(mailbox, signal);
  const own = await findLogin(deps, attempt);
  if (!own) return { ok: false, steps: attempt.steps };
  const { ca, fingerprint } = own.receive;
  const url = new URL(graphRootOf(own.receive));
  const plain = "not used: the token travels in clear";
  if (await checkWebServer(deps, attempt, { url, ca, fingerprint, origin: "", plain })) {
    const session = await runStep(attempt, "login", async () => {
      const opened = await openGraph(deps, own, attempt.deadline);
      const permissions = describePermissions(await opened.token(attempt.deadline));
      return { value: opened, detail: `${mailbox.receive.user ?? mailbox.address}; ${permissions}` };
    });
    if (session) {
      try {
        await checkMailbox(attempt, session);
      } finally {
        await session.close();
      }
    }
  }
  signal.throwIfAborted();
  return { ok: attempt.steps.every((one) => one.ok), steps: attempt.steps };
}

/** The mailbox with the login of its application. If it cannot be read, the login has failed. */
async function findLogin(deps: GraphDeps, attempt: Attempt): Promise<MailboxOf<"graph"> | undefined> {
  try {
    return (await withApplication(deps, attempt.mailbox)).mailbox;
  } catch (error) {
    await runStep(attempt, "login", () => Promise.reject(error));
    return undefined;
  }
}

async function checkMailbox(attempt: Attempt, session: GraphSession): Promise<void> {
  const { mailbox, deadline: signal, steps } = attempt;
  const folders = await runStep(attempt, "folders", () => checkFolders(session, mailbox, signal));
  if (!folders) return;
  const readable = await runStep(attempt, "capabilities", async () => {
    const found = await checkDownload(session, signal);
    if (afterDeliveryOf(mailbox.receive) === "leave") return { value: true, detail: found };
    await proveChange(session, mailbox.address, signal);
    return { value: true, detail: `${found}, and changed after their delivery` };
  });
  if (!readable) return;
  const polled = mailbox.receive.mode === "poll" ? "the mailbox is polled by its schedule" : "the folders are polled";
  steps.push({ name: "idle", ok: true, ms: 0, detail: `not used: ${polled}` });
}

async function checkFolders(session: GraphSession, mailbox: MailboxOf<"graph">, signal: AbortSignal) {
  const { folders, missing } = await getWatchList(session, mailbox, signal);
  const [problem] = missing;
  if (problem) throw problem;
  const counts: string[] = [];
  for (const { id, path, name } of folders.slice(0, MAX_SHOWN)) {
    const folder = await getFolder(session, id, signal);
    counts.push(`${path === "INBOX" ? path : name} (${folder?.count ?? 0} messages)`);
  }
  const more = folders.length > counts.length ? ` and ${folders.length - counts.length} more` : "";
  return { value: folders, detail: counts.join(", ") + more };
}

/** Makes a draft and deletes it, which needs the permission that changes of messages need. */
async function proveChange(session: GraphSession, address: string, signal: AbortSignal): Promise<void> {
  const raw = Buffer.from(`From: ${address}\r\nSubject: Test of the permission for changes\r\n\r\n`);
  const id = await createDraft(session, { raw, messageId: null, bcc: [], from: null }, signal);
  await deleteDraft(session, id, signal);
}

/** Reads the content of one message, which needs a permission of its own. */
async function checkDownload(session: GraphSession, signal: AbortSignal): Promise<string> {
  const path = withQuery(`${session.base}/mailFolders/inbox/messages`, { $select: "id", $top: "1" });
  for await (const { id } of listRows(session, { what: "Listing messages", path, row: MessageRow }, signal)) {
    try {
      const content = `${session.base}/messages/${encodeURIComponent(id)}/$value`;
      await session.getBytes("Downloading a message", content, PROOF_BYTES, signal);
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "excess") throw error;
    }
    return "messages can be downloaded";
  }
  return "the inbox is empty, so no message was downloaded";
}
