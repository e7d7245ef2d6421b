/** Tries the settings of a POP3 mailbox step by step. */
import { Problem } from "../../contract/problem.ts";
import type { PreflightReport } from "../mail.ts";
import { connectAndLogIn, preflightRun, runStep, type PreflightRun } from "../preflight-steps.ts";
import { logIn, type Pop3Deps, type Pop3Mailbox } from "./client.ts";
import type { Session } from "./session.ts";

/** Capabilities that make a difference here, and what their absence means. */
const CAPABILITIES: Record<string, string> = {
  UIDL: "no UIDL: the service recognises messages by their headers, and reads those in every run",
  TOP: "no TOP: the dates of messages are known only after their download",
  PIPELINING: "no PIPELINING: many messages take a round trip each",
};

/**
 * Connects as a run would. Reports every step up to the first failure. The mailbox does not change. Throws only when
 * the signal aborts.
 */
export async function preflight(deps: Pop3Deps, mailbox: Pop3Mailbox, signal: AbortSignal): Promise<PreflightReport> {
  const attempt = preflightRun(mailbox, signal);
  const session = await connectAndLogIn(deps, attempt, (by) => logIn(deps, mailbox, by, attempt.deadline));
  if (session) {
    const onAbort = () => session.destroy(new Problem("connect", "It was called off"));
    attempt.deadline.addEventListener("abort", onAbort, { once: true });
    try {
      await inspectServer(attempt, session);
    } finally {
      attempt.deadline.removeEventListener("abort", onAbort);
      // Nothing was marked for deletion, so a failed QUIT loses nothing.
      if (session.open) await session.quit().catch(() => undefined);
    }
  }
  signal.throwIfAborted();
  return { ok: attempt.steps.every((one) => one.ok), steps: attempt.steps };
}

async function inspectServer(attempt: PreflightRun<Pop3Mailbox>, session: Session): Promise<void> {
  const { capabilities } = session;
  const missing = Object.entries(CAPABILITIES).filter(([name]) => !capabilities.has(name));
  const offered = [...capabilities].map(([name, words]) => (words ? `${name} (${words})` : name)).join(" ");
  const detail = [offered || "none told", ...missing.map(([, meaning]) => meaning)].join("; ");
  attempt.steps.push({ name: "capabilities", ok: true, ms: 0, detail });
  await runStep(attempt, "folders", async () => {
    const sizes = await session.list();
    return { value: sizes, detail: `INBOX (${sizes.size} messages)` };
  });
  attempt.steps.push({ name: "idle", ok: true, ms: 0, detail: "POP3 knows no push: the mailbox is polled" });
}
