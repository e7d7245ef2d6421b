/** Trying out a mailbox's settings for sending, without sending anything. */
import type { Mailbox } from "../../contract/mailbox.ts";
import { asProblem } from "../../contract/problem.ts";
import type { PreflightStep } from "../mail.ts";
import { openSmtp, type SmtpDeps } from "./connect.ts";
import { smtpPlace } from "./place.ts";

/** Connects and logs in as a sending would. Throws only when the signal aborts. */
export async function sendStep(deps: SmtpDeps, mailbox: Mailbox, signal: AbortSignal): Promise<PreflightStep> {
  const startedAt = performance.now();
  const took = () => Math.round(performance.now() - startedAt);
  try {
    const { host, port, tls } = smtpPlace(mailbox);
    const session = await openSmtp(deps, mailbox, signal);
    const detail = `${host} port ${port}, tls ${tls}: ${session.describe()}`;
    session.close();
    return { name: "send", ok: true, ms: took(), detail };
  } catch (error) {
    signal.throwIfAborted();
    const { message, fix, evidence } = asProblem(error);
    return { name: "send", ok: false, ms: took(), cause: message, fix, ...(evidence !== null && { detail: evidence }) };
  }
}
