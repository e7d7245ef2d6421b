/** Trying out the settings of a POP3 mailbox step by step. */
import { Problem } from "../../contract/problem.ts";
import type { PreflightReport } from "../mail.ts";
import { connected, step, type Try } from "../preflight-steps.ts";
import { logIn, type Pop3Deps, type Pop3Mailbox } from "./client.ts";
import type { Session } from "./session.ts";

/** Which capabilities make a difference here, and what their absence means. */
const CAPABILITIES: Record<string, string> = {
  UIDL: "no UIDL: messages are told apart by their headers, which are read at every look",
  TOP: "no TOP: dates of messages are known only after downloading them",
  PIPELINING: "no PIPELINING: many messages take a round trip each",
};

/**
 * Connects as a look at the mailbox would and reports every step up to the first failure. Leaves the mailbox as it was. Throws
 * only when the signal aborts.
 */
export async function preflight(deps: Pop3Deps, mailbox: Pop3Mailbox, signal: AbortSignal): Promise<PreflightReport> {
  const attempt: Try<Pop3Mailbox> = { mailbox, signal, steps: [] };
  const session = await connected(deps, attempt, (by) => logIn(deps, mailbox, by, signal));
  if (session) {
    const stop = () => session.cut(new Problem("connect", "It was called off"));
    signal.addEventListener("abort", stop, { once: true });
    try {
      await inspected(attempt, session);
    } finally {
      signal.removeEventListener("abort", stop);
      // Nothing was marked for deletion, so a farewell that fails loses nothing.
      if (session.open) await session.quit().catch(() => undefined);
    }
  }
  signal.throwIfAborted();
  return { ok: attempt.steps.every((one) => one.ok), steps: attempt.steps };
}

async function inspected(attempt: Try<Pop3Mailbox>, session: Session): Promise<void> {
  const { capabilities } = session;
  const missing = Object.entries(CAPABILITIES).filter(([name]) => !capabilities.has(name));
  const offered = [...capabilities].map(([name, words]) => (words ? `${name} (${words})` : name)).join(" ");
  const detail = [offered || "none told", ...missing.map(([, meaning]) => meaning)].join("; ");
  attempt.steps.push({ name: "capabilities", ok: true, ms: 0, detail });
  await step(attempt, "folders", async () => {
    const sizes = await session.list();
    return { value: sizes, detail: `INBOX (${sizes.size} messages)` };
  });
  attempt.steps.push({ name: "idle", ok: true, ms: 0, detail: "POP3 knows no push: the mailbox is polled" });
}
