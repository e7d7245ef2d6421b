/**
 * What all requests of a session go through: nothing is asked before the time the server named, an older server is spoken to in its own
 * schema, and every failure is a Problem from which the session and the process learn.
 */
import type { ExchangeService } from "ews-javascript-api";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import { Problem, type ProblemCode } from "../../../contract/problem.ts";
import { within } from "../../../time.ts";
import { whole } from "../answer.ts";
import { HOLE, placed } from "../body.ts";
import type { Exchange } from "../account.ts";
import type { Account, EwsHttp, EwsOrder, EwsResponse } from "../transport/http.ts";
import type { EwsLibrary } from "./library.ts";
import type { Known } from "../transport/authentication.ts";
import type { Found } from "../autodiscover/locate.ts";
import { faultIn, libraryProblem, problemOfCode, statusProblem } from "../soap/errors.ts";
import { withoutLogin } from "../transport/auth-errors.ts";
import { enveloped, serviceOver, VERSIONS } from "./envelope.ts";

type Parts = {
  library: EwsLibrary;
  exchange: Exchange;
  account: Account;
  login: Pick<Known, "secrets">;
  http: EwsHttp;
  found: Found;
};

/** Who talks: as whom, about which mailbox, who pays, and whether that is still of use. */
export type Talk = Parts & {
  access: MailboxOf<"ews">["receive"]["access"];
  anchor: string;
  impersonated: string | null;
  payer: string;
  open: boolean;
};

/** What an answer of the library may hold, and how many times the deadline of a step all of it may take. */
const MOST_BYTES = 128 * 1024 * 1024;
const MOST_REFUSAL = 256 * 1024;
const WHOLE = 40;
const BEGINNING = 4096;
/** Too many connections, subscriptions or messages say nothing about other requests; these do. */
const BUSY = /^(ErrorServerBusy|ErrorTooManyObjectsOpened|HTTP (429|503))\b/;
/** After these a session is of no more use: another one may have a new token, or find the mailbox elsewhere. */
const ENDS = new Set<ProblemCode>(["auth", "token", "no_mailbox"]);

/** Impersonation has Exchange reckon with the mailbox acted for, so who must wait is told by both. */
export function talkAs({ address, receive: { access } }: MailboxOf<"ews">, parts: Parts): Talk {
  const impersonated = access === "impersonate" ? address : null;
  const { key } = parts.account;
  return {
    ...parts,
    access,
    anchor: address,
    impersonated,
    payer: impersonated ? `${key} ${address}` : key,
    open: true,
  };
}

type Work<T> = { what: string; work: (service: ExchangeService) => Promise<T> };

/** Runs operations of the library. */
export function asked<T>(talk: Talk, work: Work<T>, signal: AbortSignal): Promise<T> {
  return versioned(talk, () => attempted(talk, work, signal));
}

/** Sends the content of a SOAP body; resolves with the bytes of a 200 as they come. */
export function streamed(
  talk: Talk,
  order: Omit<EwsOrder, "url">,
  signal: AbortSignal,
): Promise<AsyncIterableIterator<Buffer>> {
  return versioned(talk, async () => {
    const body = placed(enveloped(HOLE, talk.account.version, talk.impersonated), order.body);
    return overheard(talk, (await posted(talk, { flowing: true, ...order, body }, signal)).chunks);
  });
}

/** The chunks as they are; an error that the answer begins with is the reader's to find, and ours to learn from, unless it means another server. */
function overheard(talk: Talk, chunks: AsyncIterableIterator<Buffer>): AsyncIterableIterator<Buffer> {
  let begun = false;
  const same: AsyncIterableIterator<Buffer> = {
    async next() {
      const step = await chunks.next();
      if (!begun && !step.done) {
        begun = true;
        const fault = faultIn(step.value.toString("latin1", 0, BEGINNING));
        if (fault) await judged(talk, problemOfCode(fault), chunks);
      }
      return step;
    },
    return: async () => (await chunks.return?.()) ?? { done: true, value: undefined },
    [Symbol.asyncIterator]: () => same,
  };
  return same;
}

async function judged(talk: Talk, problem: Problem, chunks: AsyncIterableIterator<Buffer>): Promise<void> {
  const meant = learnt(talk, problem);
  if (meant === problem) return;
  await chunks.return?.();
  throw meant;
}

async function attempted<T>(talk: Talk, { what, work }: Work<T>, signal: AbortSignal): Promise<T> {
  const { library, account, found, impersonated } = talk;
  const seen: { failure?: unknown; backOffMs?: number | null } = {};
  const transport = async (body: string): Promise<string> => {
    try {
      const { chunks } = await posted(talk, { what, body }, signal);
      const text = await within(WHOLE * account.command, what, whole(chunks, MOST_BYTES), signal);
      seen.backOffMs = faultIn(text)?.backOffMs ?? null;
      return text;
    } catch (error) {
      // The library makes something else of it.
      seen.failure = error;
      throw error;
    }
  };
  const service = serviceOver(library, { url: found.place.url, version: account.version, impersonated, transport });
  try {
    return await work(service);
  } catch (error) {
    signal.throwIfAborted();
    throw seen.failure ?? libraryProblem(library, error, seen.backOffMs ?? null);
  }
}

async function posted(talk: Talk, order: Omit<EwsOrder, "url">, signal: AbortSignal): Promise<EwsResponse> {
  const { exchange, http, found, anchor, payer } = talk;
  signal.throwIfAborted();
  const until = exchange.busy.until(payer);
  if (until) throw new Problem("throttled", "Exchange asked to slow down", { retry: until });
  const headers = { "X-AnchorMailbox": anchor, ...order.headers };
  const answer = await http.post({ ...order, url: found.place.url, headers }, signal);
  if (answer.status === 200) return answer;
  throw statusProblem(answer.status, answer.headers, await whole(answer.chunks, MOST_REFUSAL));
}

/** Once more with an older version of the schema, where the server knows no newer one. */
async function versioned<T>(talk: Talk, work: () => Promise<T>): Promise<T> {
  const { version } = talk.account;
  try {
    return await work();
  } catch (error) {
    const older = VERSIONS[VERSIONS.indexOf(version) + 1];
    if (!isTooNew(error) || !older) throw learnt(talk, withoutLogin(error, talk.login.secrets()));
    talk.account.version = older;
  }
  return versioned(talk, work);
}

function isTooNew(error: unknown): boolean {
  return error instanceof Problem && (error.evidence?.startsWith("ErrorInvalidServerVersion") ?? false);
}

function learnt(talk: Talk, error: unknown): unknown {
  if (!(error instanceof Problem)) return error;
  const { code, retry, evidence } = error;
  if (retry instanceof Date && BUSY.test(evidence ?? "")) talk.exchange.busy.note(talk.payer, retry);
  if (ENDS.has(code) || isElsewhere(error)) talk.open = false;
  return isElsewhere(error) || code === "auth" ? talk.found.doubted(error) : error;
}

/** True where the server that was asked is not, or no longer, the mailbox's. */
function isElsewhere({ code, evidence }: Problem): boolean {
  return code === "no_mailbox" || /^HTTP (3\d\d|40[45])\b/.test(evidence ?? "");
}
