/** The CRM dialect as a whole: which requests are its, who may make them, what each means, and one answer for whatever goes wrong. */
import { asProblem, Problem } from "../../../shared/contract/problem.ts";
import type { Gate } from "../../http/auth.ts";
import { errorAnswer, problemAnswer } from "../../http/problems.ts";
import { readBody } from "../../http/body.ts";
import { type Visit, listenersGate } from "./access.ts";
import { type Deps, OPERATIONS } from "./operations.ts";
import { guessedOperation, type ListenerPath, listenerPath, namedOperation, type Operation } from "./paths.ts";
import { maskedPath, shapeOf } from "./record.ts";
import { send } from "./send.ts";

export interface Listeners {
  /** The answer to a request of a CRM; undefined when the request is none. */
  answer(request: Request, peer: string): Promise<Response> | undefined;
  /** How such a request is called in facts; undefined when it is none. */
  template(method: string, path: string): string | undefined;
}

/** Outgoing mail comes with its attachments, a third longer than they are. */
const MOST_BYTES = 96 * 1024 * 1024;
/** Paths that are understood by a guess are said once each, but not without end. */
const MOST_GUESSES = 100;

/** The dialect under `/api/` of the service; the requests' signals end with the given one. */
export function listeners(deps: Deps, api: Gate, stop: AbortSignal): Listeners {
  const base = deps.config.BASE_PATH;
  const refused = listenersGate(deps.config, api);
  const guesses = new Set<string>();

  const guessed = (method: string, path: string, operation: Operation) => {
    if (guesses.has(path) || guesses.size >= MOST_GUESSES) return;
    guesses.add(path);
    deps.facts.emit({ kind: "listeners.guessed", method, path, guess: operation });
  };

  async function answer({ request, segment, peer }: Visit, read: ListenerPath): Promise<Response> {
    const named = namedOperation(request.method, read);
    if (named === "status") return OPERATIONS.status(deps, nothing(request, stop));
    const problem = refused({ request, segment, peer });
    if (problem) return refusal(problem, base);
    const path = maskedPath(new URL(request.url).pathname, segment);
    const body = parsedBody(await readBody(request, MOST_BYTES));
    if (deps.config.LISTENERS_RECORD === "on") record(deps, request, path, body);
    const operation = named ?? guessedOperation(read, body);
    if (operation === undefined) throw unknown(path);
    if (!named) guessed(request.method, path, operation);
    const asked = { ...nothing(request, stop), body, path, version2: read.version2 };
    return operation === "send" ? send(deps, asked) : OPERATIONS[operation](deps, asked);
  }

  const readPath = (method: string, url: URL) => {
    if (!url.pathname.startsWith(`${base}/`)) return undefined;
    const read = listenerPath(url.pathname.slice(base.length), url.search);
    return read && (method === "POST" || namedOperation(method, read)) ? read : undefined;
  };

  return {
    answer(request, peer) {
      const read = readPath(request.method, new URL(request.url));
      if (!read) return undefined;
      return answer({ request, segment: read.segment, peer }, read).catch((error: unknown) =>
        errorAnswer(error, base, (problem) => report(deps, problem)),
      );
    },
    template(method, path) {
      const read = readPath(method, new URL(path, "http://localhost"));
      return read && `/api/listeners/${namedOperation(method, read) ?? "{guessed}"}`;
    },
  };
}

function nothing(request: Request, stop: AbortSignal) {
  const signal = (ms: number) => AbortSignal.any([request.signal, stop, AbortSignal.timeout(ms)]);
  return { body: undefined, path: "", version2: false, signal };
}

/** JSON whatever its content type; a bare text where a CRM forgets the quotes. */
function parsedBody(text: string): unknown {
  const bare = text.replace(/^\uFEFF/, "").trim();
  if (bare === "") return undefined;
  try {
    return JSON.parse(bare);
  } catch (cause) {
    if (/^https?:\/\/\S+$/i.test(bare)) return bare;
    // The parser's message quotes the body, which holds passwords.
    throw new Problem("malformed", "The body is not valid JSON.", { retry: "never", cause });
  }
}

function refusal(problem: Problem, base: string): Response {
  const challenge = { "www-authenticate": 'Basic realm="email-listener"' };
  return problemAnswer(problem, base, problem.code === "unauthorized" ? challenge : {});
}

function unknown(path: string): Problem {
  return new Problem("not_found", `What ${path} means cannot be told.`, { retry: "never" });
}

function record(deps: Deps, request: Request, path: string, body: unknown): void {
  const headers = [...request.headers.keys()].toSorted();
  deps.facts.emit({ kind: "listeners.recorded", method: request.method, path, headers, body: shapeOf(body) });
}

function report(deps: Deps, problem: Problem): void {
  const { code, cause } = asProblem(problem).view();
  deps.facts.emit({ kind: "service.failed", what: "answering a CRM", failure: { code, cause } });
}
