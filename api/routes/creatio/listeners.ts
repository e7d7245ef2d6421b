/**
 * The CRM dialect as a whole: which requests belong to it, who may make them, what each means, and one form of answer
 * for all failures.
 */
import { asProblem, Problem } from "../../../shared/contract/problem.ts";
import { errorResponse, problemResponse } from "../../http/problems.ts";
import { auditChange, type ChangeStart, fieldNames } from "../../http/audit-trail.ts";
import { checkContentType, parseJson, readBody } from "../../http/body.ts";
import { browserProblem, type Client, isFromProgram } from "../../http/client.ts";
import { type AccessRequest, type CrmAccessDeps, type CrmActor, crmAccessCheck } from "./access.ts";
import { getMember, parseGuid } from "./members.ts";
import { type CreatioDeps, OPERATIONS } from "./operations.ts";
import { guessOperation, type ListenerPath, parseListenerPath, findOperation, type Operation } from "./paths.ts";
import { maskPath, shapeOf } from "./record.ts";
import { send } from "./send.ts";

export interface CreatioListeners {
  /** The answer to a request of a CRM; undefined for any other request. */
  respond(request: Request, client: Client): Promise<Response> | undefined;
  /** The name of such a request in facts; undefined for any other request. */
  routeName(method: string, path: string): string | undefined;
}

/** Outgoing mail comes with its attachments in base64, a third larger than they are. */
const MAX_BODY_BYTES = 96 * 1024 * 1024;
const BASIC_CHALLENGE = { "www-authenticate": 'Basic realm="email-listener"' };
const ANYBODY = { id: "anybody", name: "anybody" };
/** Operations that the audit records. Sendings have facts that name their actor. */
const CHANGES: ReadonlySet<Operation> = new Set(["create", "recreate", "update", "close", "synchronize", "fetch"]);
/** Each guessed path is reported once, but at most so many. */
const MAX_GUESSES = 100;

/** The dialect under `/api/` of the service. The requests' signals end with the given one. */
export function creatioListeners(deps: CreatioDeps, access: CrmAccessDeps, stop: AbortSignal): CreatioListeners {
  const base = deps.config.BASE_PATH;
  const checkAccess = crmAccessCheck(deps.config, access);
  const guesses = new Set<string>();

  const emitGuess = (method: string, path: string, operation: Operation) => {
    if (guesses.has(path) || guesses.size >= MAX_GUESSES) return;
    guesses.add(path);
    deps.facts.emit({ kind: "creatio.request_guessed", method, path, guess: operation });
  };

  async function handle({ request, segment, client }: AccessRequest, crmPath: ListenerPath): Promise<Response> {
    const named = findOperation(request.method, crmPath);
    if (named === "status") return OPERATIONS.status(deps, { ...emptyRequest(request, stop), actor: ANYBODY });
    const foreign = browserProblem(request, deps.config);
    if (foreign) throw foreign;
    const actor = await checkAccess({ request, segment, client });
    // A program may leave out the type. From a browser only JSON is accepted, which it sends for its own pages alone.
    if (request.headers.has("content-type") || !isFromProgram(request)) checkContentType(request, ["application/json"]);
    const path = maskPath(new URL(request.url).pathname, segment);
    const body = parseBody(await readBody(request, MAX_BODY_BYTES));
    if (deps.config.CRM_RECORD === "on") emitRecorded(deps, request, path, body);
    const operation = named ?? guessOperation(crmPath, body);
    if (operation === undefined) throw unknownPathProblem(path);
    if (!named) emitGuess(request.method, path, operation);
    const asked = { ...emptyRequest(request, stop), body, path, actor, version2: crmPath.version2 };
    if (operation === "send") return send(deps, asked);
    const work = async () => OPERATIONS[operation](deps, asked);
    if (!CHANGES.has(operation)) return work();
    const change = { method: request.method, route: `/api/listeners/${operation}`, changed: fieldNames(body) };
    return auditEach(deps, actor, { change, mailboxes: mailboxesIn(body) }, work);
  }

  const matchPath = (method: string, url: URL) => {
    if (!url.pathname.startsWith(`${base}/`)) return undefined;
    const crmPath = parseListenerPath(url.pathname.slice(base.length), url.search);
    return crmPath && (method === "POST" || findOperation(method, crmPath)) ? crmPath : undefined;
  };

  return {
    respond(request, client) {
      const crmPath = matchPath(request.method, new URL(request.url));
      if (!crmPath) return undefined;
      return handle({ request, segment: crmPath.segment, client }, crmPath).catch((error: unknown) =>
        error instanceof Problem && error.code === "unauthorized"
          ? problemResponse(error, base, BASIC_CHALLENGE)
          : errorResponse(error, base, (problem) => reportFailure(deps, problem)),
      );
    },
    routeName(method, path) {
      const crmPath = matchPath(method, new URL(path, "http://localhost"));
      return crmPath && `/api/listeners/${findOperation(method, crmPath) ?? "{guessed}"}`;
    },
  };
}

/** The mailboxes that a request names: a list of ids or of credentials, or one of them. */
function mailboxesIn(body: unknown): string[] {
  const named = [body]
    .flat()
    .flatMap((item) => [item, getMember(item, "Id"), getMember(getMember(item, "Credentials"), "Id")]);
  return [...new Set(named.map(parseGuid).filter((id) => id !== undefined))].slice(0, MAX_AUDITED);
}

/** Mailboxes of one request that the audit names. */
const MAX_AUDITED = 100;

type CrmChange = { change: Pick<ChangeStart, "method" | "route" | "changed">; mailboxes: string[] };

/** Does the work once, with a record for each mailbox. A refusal of one of several may come after the change of others. */
function auditEach(
  deps: CreatioDeps,
  actor: CrmActor,
  { change, mailboxes }: CrmChange,
  work: () => Promise<Response>,
): Promise<Response> {
  const partial = mailboxes.length > 1;
  const records = partial ? mailboxes : [mailboxes[0] ?? null];
  const recorded = records.reduce<() => Promise<Response>>(
    (inner, mailbox) => () => auditChange(deps, actor, { ...change, target: mailbox, mailbox, partial }, inner),
    work,
  );
  return recorded();
}

function emptyRequest(request: Request, stop: AbortSignal) {
  const signal = (ms: number) => AbortSignal.any([request.signal, stop, AbortSignal.timeout(ms)]);
  return { body: undefined, path: "", version2: false, signal };
}

/** A CRM may forget the quotes of a single text. */
function parseBody(text: string): unknown {
  const bare = text.replace(/^\uFEFF/, "").trim();
  if (bare === "") return undefined;
  if (/^https?:\/\/\S+$/i.test(bare)) return bare;
  return parseJson(bare);
}

function unknownPathProblem(path: string): Problem {
  return new Problem("not_found", `The path ${path} means no known operation.`, { retry: "never" });
}

function emitRecorded(deps: CreatioDeps, request: Request, path: string, body: unknown): void {
  const headers = [...request.headers.keys()].toSorted();
  deps.facts.emit({ kind: "creatio.request_recorded", method: request.method, path, headers, body: shapeOf(body) });
}

function reportFailure(deps: CreatioDeps, problem: Problem): void {
  const { code, cause } = asProblem(problem).view();
  deps.facts.emit({ kind: "service.failed", what: "answering a CRM", failure: { code, cause } });
}
