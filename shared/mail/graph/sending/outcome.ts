/**
 * What became of a draft that was to be sent. Graph answers before anything is sent, and an answer may be lost. The
 * draft's immutable id leads to the message wherever it is now, so it can be asked.
 */
import * as v from "valibot";
import { Problem, type ProblemCode } from "../../../contract/problem.ts";
import { clock, sleep } from "../../../time.ts";
import { isNotFound } from "../client/errors.ts";
import { withQuery } from "../client/pages.ts";
import type { GraphSession } from "../client/session.ts";
import { draftPath } from "./drafts.ts";

/** `messageId` is the Message-ID that the server gave it; null if it did not say. */
type Outcome = { kind: "sent"; messageId: string | null } | { kind: "draft" } | { kind: "unknown" };

const Message = v.object({ isDraft: v.nullish(v.boolean()), internetMessageId: v.nullish(v.string()) });

const ASK_MS = { first: 500, last: 15_000 };
/** After these problems it is asked again. */
const PASSING = new Set<ProblemCode>(["connect", "timeout", "unavailable", "throttled", "dns", "protocol"]);

/**
 * Asks until the message is no draft any more, until it is still one after `draftMs`, or for `waitMs`. While the server
 * files it, it is nowhere.
 */
export async function askOutcome(
  session: GraphSession,
  id: string,
  { draftMs, waitMs }: { draftMs: number; waitMs: number },
  signal: AbortSignal,
): Promise<Outcome> {
  const startedAt = clock.monotonic();
  const path = withQuery(draftPath(session, id), { $select: "isDraft,internetMessageId" });
  for (let ms = ASK_MS.first; ; ms = Math.min(2 * ms, ASK_MS.last)) {
    const found = await readMessage(session, path, signal);
    if (found === "unreadable") return { kind: "unknown" };
    if (found?.isDraft === false) return { kind: "sent", messageId: found.internetMessageId ?? null };
    const elapsed = clock.monotonic() - startedAt;
    if (found?.isDraft === true && elapsed >= draftMs) return { kind: "draft" };
    if (elapsed >= waitMs || !(await sleep(Math.min(ms, waitMs - elapsed), signal))) return { kind: "unknown" };
  }
}

async function readMessage(session: GraphSession, path: string, signal: AbortSignal) {
  try {
    return await session.get("Asking about a sent message", path, Message, signal);
  } catch (error) {
    if (signal.aborted) return "unreadable";
    if (isNotFound(error) || (error instanceof Problem && PASSING.has(error.code))) return undefined;
    return "unreadable";
  }
}
