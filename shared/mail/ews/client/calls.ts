/**
 * Every request of a session passes here. No request goes out before the time that the server named. An older server
 * gets its own schema version. Every failure becomes a Problem, and the session and the process remember what it means
 * for later requests.
 */
import type { ExchangeService } from "ews-javascript-api";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import { Problem, type ProblemCode } from "../../../contract/problem.ts";
import { withTimeout } from "../../../time.ts";
import { readText, type HttpResponse } from "../../http/response.ts";
import { PLACEHOLDER, fillPlaceholder } from "../../http/request-body.ts";
import type { EwsAccounts } from "../account.ts";
import type { EwsAccount, EwsHttp, EwsRequest } from "../transport/http.ts";
import { type EwsLibrary, problemFromLibrary } from "./library.ts";
import type { MailboxLogin } from "../transport/authentication.ts";
import { findFault, problemFromCode, problemFromStatus } from "../soap/errors.ts";
import { withoutGiven } from "../../../evidence/evidence.ts";
import { buildEnvelope, createService } from "./envelope.ts";
import type { LocatedServiceUrl } from "../service-url.ts";
import { findServerVersion, VERSIONS } from "../soap/versions.ts";

type CallContextParts = {
  library: EwsLibrary;
  exchange: EwsAccounts;
  account: EwsAccount;
  login: Pick<MailboxLogin, "secrets">;
  http: EwsHttp;
  located: LocatedServiceUrl;
};

/**
 * The caller of a request: the mailbox, the identity it acts as, the key for throttling, and whether the session is
 * still usable.
 */
export type CallContext = CallContextParts & {
  access: MailboxOf<"ews">["receive"]["access"];
  anchor: string;
  impersonated: string | null;
  throttleKey: string;
  open: boolean;
};

/** The largest answer for the library, and the deadline of a whole answer as a multiple of one step's deadline. */
const MAX_BYTES = 32 * 1024 * 1024;
const MAX_ERROR_BYTES = 256 * 1024;
const RESPONSE_FACTOR = 40;
const FAULT_SCAN_BYTES = 4096;
/**
 * These codes mean that the server wants no requests at all. Too many connections, subscriptions or messages say
 * nothing about other requests.
 */
const THROTTLED = /^(ErrorServerBusy|ErrorTooManyObjectsOpened|HTTP (429|503))\b/;
/** After these problems the session is useless. A new one may have a new token, or find the mailbox elsewhere. */
const SESSION_ENDING = new Set<ProblemCode>(["auth", "token", "no_mailbox"]);

/** With impersonation Exchange charges the mailbox that the login acts as, so the throttle key contains both. */
export function createCallContext(
  { address, receive: { access } }: MailboxOf<"ews">,
  parts: CallContextParts,
): CallContext {
  const impersonated = access === "impersonate" ? address : null;
  const { key } = parts.account;
  return {
    ...parts,
    access,
    anchor: address,
    impersonated,
    throttleKey: impersonated ? `${key} ${address}` : key,
    open: true,
  };
}

type LibraryCall<T> = { what: string; work: (service: ExchangeService) => Promise<T> };

/** Runs operations of the library. */
export function callLibrary<T>(context: CallContext, work: LibraryCall<T>, signal: AbortSignal): Promise<T> {
  return withVersionFallback(context, () => runLibraryCall(context, work, signal));
}

/** Sends the content of a SOAP body. Resolves with the bytes of a 200 as they arrive. */
export function postSoap(
  context: CallContext,
  request: Omit<EwsRequest, "url">,
  signal: AbortSignal,
): Promise<AsyncIterableIterator<Buffer>> {
  return withVersionFallback(context, async () => {
    const body = fillPlaceholder(
      buildEnvelope(PLACEHOLDER, context.account.version, context.impersonated),
      request.body,
    );
    return watchForFault(context, (await postEnvelope(context, { flowing: true, ...request, body }, signal)).chunks);
  });
}

/**
 * Returns the chunks unchanged. If the answer begins with an error, the session learns from it here, and the reader
 * finds it too, unless it means another server.
 */
function watchForFault(context: CallContext, chunks: AsyncIterableIterator<Buffer>): AsyncIterableIterator<Buffer> {
  let started = false;
  const watched: AsyncIterableIterator<Buffer> = {
    async next() {
      const step = await chunks.next();
      if (!started && !step.done) {
        started = true;
        const head = step.value.toString("latin1", 0, FAULT_SCAN_BYTES);
        noteServerVersion(context, head);
        const fault = findFault(head);
        if (fault) await handleFault(context, problemFromCode(fault), chunks);
      }
      return step;
    },
    return: async () => (await chunks.return?.()) ?? { done: true, value: undefined },
    [Symbol.asyncIterator]: () => watched,
  };
  return watched;
}

function noteServerVersion({ account }: CallContext, head: string): void {
  account.serverVersion = findServerVersion(head) ?? account.serverVersion;
}

async function handleFault(
  context: CallContext,
  problem: Problem,
  chunks: AsyncIterableIterator<Buffer>,
): Promise<void> {
  const learned = learnFrom(context, problem);
  if (learned === problem) return;
  await chunks.return?.();
  throw learned;
}

async function runLibraryCall<T>(
  context: CallContext,
  { what, work }: LibraryCall<T>,
  signal: AbortSignal,
): Promise<T> {
  const { library, account, located, impersonated } = context;
  const observed: { failure?: unknown; backOffMs?: number | null } = {};
  const transport = async (body: string): Promise<string> => {
    try {
      const { chunks } = await postEnvelope(context, { what, body }, signal);
      const text = await withTimeout(RESPONSE_FACTOR * account.command, what, readText(chunks, MAX_BYTES), signal);
      noteServerVersion(context, text.slice(0, FAULT_SCAN_BYTES));
      observed.backOffMs = findFault(text)?.backOffMs ?? null;
      return text;
    } catch (error) {
      // The library would replace this error by its own.
      observed.failure = error;
      throw error;
    }
  };
  const service = createService(library, {
    url: located.serviceUrl.url,
    version: account.version,
    impersonated,
    transport,
  });
  try {
    return await work(service);
  } catch (error) {
    signal.throwIfAborted();
    throw observed.failure ?? problemFromLibrary(library, error, observed.backOffMs ?? null);
  }
}

async function postEnvelope(
  context: CallContext,
  request: Omit<EwsRequest, "url">,
  signal: AbortSignal,
): Promise<HttpResponse> {
  const { exchange, http, located, anchor, throttleKey } = context;
  signal.throwIfAborted();
  const until = exchange.backOff.until(throttleKey);
  if (until) throw new Problem("throttled", "Exchange asked to slow down", { retry: until });
  const headers = { "X-AnchorMailbox": anchor, ...request.headers };
  const response = await http.post({ ...request, url: located.serviceUrl.url, headers }, signal);
  if (response.status === 200) return response;
  throw problemFromStatus(response.status, response.headers, await readText(response.chunks, MAX_ERROR_BYTES));
}

/** Tries again with an older schema version if the server does not know the newer one. */
async function withVersionFallback<T>(context: CallContext, work: () => Promise<T>): Promise<T> {
  const { version } = context.account;
  try {
    return await work();
  } catch (error) {
    const older = VERSIONS[VERSIONS.indexOf(version) + 1];
    if (!isVersionTooNew(error) || !older)
      throw learnFrom(context, withoutGiven(error, { secrets: context.login.secrets() }));
    context.account.version = older;
  }
  return withVersionFallback(context, work);
}

function isVersionTooNew(error: unknown): boolean {
  return error instanceof Problem && (error.evidence?.startsWith("ErrorInvalidServerVersion") ?? false);
}

function learnFrom(context: CallContext, error: unknown): unknown {
  if (!(error instanceof Problem)) return error;
  const { code, retry, evidence } = error;
  if (retry instanceof Date && THROTTLED.test(evidence ?? "")) context.exchange.backOff.set(context.throttleKey, retry);
  if (SESSION_ENDING.has(code) || isWrongServer(error)) context.open = false;
  return isWrongServer(error) || code === "auth" ? context.located.invalidate(error) : error;
}

/** True if the server that was asked is not, or no longer, the mailbox's server. */
function isWrongServer({ code, evidence }: Problem): boolean {
  return code === "no_mailbox" || /^HTTP (3\d\d|40[45])\b/.test(evidence ?? "");
}
