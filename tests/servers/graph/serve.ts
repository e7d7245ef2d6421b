/** One request from its token to its answer: who asks, which operation, on which mailbox, within which limits. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Answer, badRequest, GraphError, refusal, type RequestIds, requestIds } from "./answers.ts";
import { answerOf } from "./failing.ts";
import type { Fault, Take } from "./faults.ts";
import { callerOf } from "./login/bearer.ts";
import { checkAccess } from "./login/permissions.ts";
import { partsOf } from "./paths.ts";
import { findRoute, type Found, type MailRoute } from "./routes.ts";
import { mailboxOf } from "./users.ts";
import type { Caller } from "./login/applications.ts";
import type { Ask, GraphRequest, Prefer, World } from "./world.ts";

/** One request as the server saw it. */
export type Logged = {
  at: Date;
  method: string;
  /** Below /v1.0, with the query. */
  path: string;
  /** What faults call it; "" for a path that is no operation. */
  operation: string;
  /** The user principal name; "" when there is no mailbox. */
  user: string;
  prefer: string | undefined;
  headers: Record<string, string>;
  status: number;
  /** Requests of the application that were in this mailbox, with this one; 0 for one that got no place. */
  atOnce: number;
  inBatch: boolean;
};

/** Of more requests than these the oldest are forgotten. */
const MOST_LOGGED = 100_000;

export type Service = { world: World; take: Take; requests: Logged[] };

/** An answer, what the connection does with it, and the end of the request's place in the mailbox. */
export type Served = { answer: Answer; fault: Fault | undefined; done: () => void };

/** Serves one request; never throws what is the client's fault. */
export async function serve(service: Service, request: GraphRequest, inBatch = false): Promise<Served> {
  const ids = requestIds(request.headers);
  const log: Logged = {
    at: new Date(),
    method: request.method,
    path: request.path,
    operation: "",
    user: "",
    prefer: request.headers["prefer"],
    headers: withoutToken(request.headers),
    status: 0,
    atOnce: 0,
    inBatch,
  };
  service.requests.push(log);
  if (service.requests.length > MOST_LOGGED) service.requests.splice(0, MOST_LOGGED / 10);
  const served: Served = { answer: { status: 500 }, fault: undefined, done: () => undefined };
  try {
    served.answer = await answered(service, request, { log, served, ids });
  } catch (error) {
    if (!(error instanceof GraphError)) throw error;
    served.answer = refusal(error, ids);
  }
  log.status = served.answer.status;
  const own = { "request-id": ids.requestId, "client-request-id": ids.clientRequestId };
  served.answer.headers = { ...own, ...served.answer.headers };
  return served;
}

function withoutToken(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name !== "authorization"));
}

type Work = { log: Logged; served: Served; ids: RequestIds };

async function answered(service: Service, request: GraphRequest, work: Work): Promise<Answer> {
  const { world } = service;
  const caller = callerOf(world, request);
  const [path = "", query = ""] = request.path.split(/\?(.*)/s);
  const parts = ownParts(decoded(path), caller);
  const found = findRoute(request.method, parts);
  if ("methods" in found) throw unknownPath(path, found.methods);
  work.log.operation = found.route.name;
  const options = new URLSearchParams(query);
  const ask: Ask = {
    world,
    request,
    path: path.replace(/^\//, ""),
    query: options,
    prefer: preferences(request.headers["prefer"]),
    caller,
    named: found.named,
  };
  checkOptions(options);
  return "mail" in found.route ? onMailbox(service, ask, found.route, work) : elsewhere(service, ask, found, work);
}

const OPTIONS =
  "$select $top $skip $filter $orderby $count $expand $deltatoken $skiptoken changeType includeHiddenFolders".split(
    " ",
  );

/** What this server does not do it refuses, rather than to answer something else than Graph would. */
function checkOptions(query: URLSearchParams): void {
  const unknown = [...query.keys()].find((one) => !OPTIONS.includes(one));
  if (unknown === undefined) return;
  const message = `The fake Graph does not know the query option '${unknown}'.`;
  throw new GraphError({ status: 501, code: "NotImplemented", message });
}

function decoded(path: string): string[] {
  try {
    return partsOf(path);
  } catch (error) {
    if (error instanceof URIError) throw badRequest("The request URI is malformed.");
    throw error;
  }
}

/** /me is the user who signed in. */
function ownParts(parts: string[], caller: Caller): string[] {
  if (parts[0]?.toLowerCase() !== "me") return parts;
  if (!caller.user) throw badRequest("/me request is only valid with delegated authentication flow.");
  return ["users", caller.user.guid, ...parts.slice(1)];
}

function unknownPath(path: string, methods: string[]): GraphError {
  if (methods.length > 0)
    return new GraphError({
      status: 405,
      code: "ErrorInvalidRequest",
      message: "The OData request is not supported.",
      headers: { Allow: [...new Set(methods)].join(", ") },
    });
  return badRequest(`Resource not found for the segment '${partsOf(path).at(-1) ?? ""}'.`);
}

async function onMailbox(service: Service, ask: Ask, route: MailRoute, { log, served, ids }: Work): Promise<Answer> {
  const { world, take } = service;
  const mailbox = mailboxOf(world, ask.named["user"] ?? "");
  log.user = mailbox.userPrincipalName;
  checkAccess(world, ask.caller, mailbox, route.need);
  const { atOnce, leave } = world.gate.enter(ask.caller.clientId, mailbox.guid);
  log.atOnce = atOnce;
  served.done = leave;
  const { latencyMs } = world.behaviour;
  if (latencyMs > 0) await sleep(latencyMs);
  const fault = take(route.name, mailbox.userPrincipalName, ask.named["folder"]);
  return underFault(fault, served, ids, async () => route.mail({ ...ask, mailbox }));
}

async function elsewhere({ take }: Service, ask: Ask, { route }: Found, { served, ids }: Work): Promise<Answer> {
  if (!("other" in route)) throw new Error(`${route.name} is an operation on a mailbox`);
  const { other } = route;
  const user = ask.caller.user?.userPrincipalName ?? "";
  return underFault(take(route.name, user), served, ids, async () => other(ask));
}

/** The answer that the fault makes of it; the connection is left to the caller. */
async function underFault(
  fault: Fault | undefined,
  served: Served,
  ids: RequestIds,
  work: () => Promise<Answer>,
): Promise<Answer> {
  served.fault = fault;
  if (!fault) return work();
  if ("delayMs" in fault) await sleep(fault.delayMs);
  const instead = answerOf(fault, ids);
  if (instead) return instead;
  const answer = await work();
  return "after" in fault ? { status: fault.after.status, bytes: Buffer.from(fault.after.body) } : answer;
}

function preferences(text = ""): Prefer {
  const wishes = text.split(",").map((one) => one.trim());
  const value = (name: string): string | undefined => {
    const found = wishes.find((one) => one.toLowerCase().startsWith(`${name}=`));
    return found?.slice(name.length + 1).replaceAll('"', "");
  };
  const size = Number(value("odata.maxpagesize"));
  return {
    immutable: value("idtype")?.toLowerCase() === "immutableid",
    pageSize: Number.isInteger(size) && size > 0 ? size : undefined,
    text: value("outlook.body-content-type") === "text",
  };
}
