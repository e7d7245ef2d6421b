/** Downloads messages as MIME, up to three at a time. A message that Exchange cannot give stops no other. */
import * as v from "valibot";
import type { FetchedMessage, MessageRef } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import { MAX_MESSAGE_BYTES } from "../../net/excess.ts";
import { findGraphIds } from "../client/exchange-ids.ts";
import { GraphRefusal, isNotFound } from "../client/errors.ts";
import { withQuery } from "../client/pages.ts";
import type { GraphSession } from "../client/session.ts";

type Fetched = FetchedMessage | { ref: MessageRef; problem: Problem };
type KeyedRef = MessageRef & { key: string };

const AT_ONCE = 3;

const Properties = v.object({
  isRead: v.nullish(v.boolean()),
  isDraft: v.nullish(v.boolean()),
  flag: v.nullish(v.object({ flagStatus: v.nullish(v.string()) })),
  categories: v.nullish(v.array(v.string())),
});

/**
 * `fetch` of MailConnection. Messages with another protocol's names are `gone`: the subscription hands them over again.
 */
export async function* fetchMessages(
  session: GraphSession,
  messages: MessageRef[],
  signal: AbortSignal,
): AsyncGenerator<Fetched, void, undefined> {
  const keyed = messages.filter((ref): ref is KeyedRef => ref.key !== undefined);
  if (keyed.length < messages.length) {
    const cause = "The messages have no Graph ids; the subscription finds them again";
    throw new Problem("gone", cause, { retry: "never" });
  }
  const ids = await findGraphIds(session, keyed, signal);
  const downloads: Promise<Fetched | "gone">[] = [];
  for (const ref of keyed) {
    const next = download(session, { ref, id: ids.get(ref.key) ?? ref.key }, signal);
    // Whoever reads them stops at the first that fails.
    next.catch(() => undefined);
    downloads.push(next);
    if (downloads.length === AT_ONCE) yield* present(await downloads.shift());
  }
  while (downloads.length > 0) yield* present(await downloads.shift());
}

function present(fetched: Fetched | "gone" | undefined): Fetched[] {
  return fetched === undefined || fetched === "gone" ? [] : [fetched];
}

/** Throws what concerns the mailbox or the connection. What concerns this message is its problem. */
async function download(
  session: GraphSession,
  { ref, id }: { ref: KeyedRef; id: string },
  signal: AbortSignal,
): Promise<Fetched | "gone"> {
  const path = `${session.base}/messages/${encodeURIComponent(id)}`;
  try {
    const query = withQuery(path, { $select: "isRead,isDraft,flag,categories" });
    const properties = await session.get("Reading a message's flags", query, Properties, signal);
    const raw = await session.getBytes("Downloading a message", `${path}/$value`, MAX_MESSAGE_BYTES, signal);
    if (raw.length === 0)
      return { ref, problem: new Problem("message", "Exchange gives this message without content") };
    return { ref, raw, flags: toFlags(properties) };
  } catch (error) {
    if (isNotFound(error)) return "gone";
    if (isOwnProblem(error)) return { ref, problem: toOwnProblem(error) };
    throw error;
  }
}

/** Flags as in IMAP; categories as they are. */
function toFlags({ isRead, isDraft, flag, categories }: v.InferOutput<typeof Properties>): string[] {
  return [
    ...(isRead === true ? ["\\Seen"] : []),
    ...(isDraft === true ? ["\\Draft"] : []),
    ...(flag?.flagStatus === "flagged" ? ["\\Flagged"] : []),
    ...(categories ?? []),
  ];
}

/** Exchange answered, and its trouble is with this message: it cannot build its MIME, or takes too long for that. */
function isOwnProblem(error: unknown): error is Problem {
  if (!(error instanceof Problem)) return false;
  if (error.code === "excess" || error.code === "message") return true;
  if (!(error instanceof GraphRefusal)) return false;
  return error.code === "protocol" || (error.code === "unavailable" && [500, 504].includes(error.status));
}

function toOwnProblem({ message, evidence, retry, fix }: Problem): Problem {
  return new Problem("message", message, {
    retry: retry === "never" ? "later" : retry,
    fix,
    ...(evidence !== null && { evidence }),
  });
}
