/** $batch: up to twenty requests in one, answered in any order, each with its own status. */
import { randomInt } from "node:crypto";
import { type Answer, badRequest, GraphError, refusal, requestIds } from "./answers.ts";
import { callerOf } from "./login/bearer.ts";
import { serve, type Service } from "./serve.ts";
import type { GraphRequest } from "./world.ts";

const MOST_REQUESTS = 20;
/** So many go to Exchange at once. */
const AT_ONCE = 4;

type Part = {
  id: string;
  method: string;
  url: string;
  headers?: Record<string, string>;
  body?: unknown;
  dependsOn?: string[];
};

type PartAnswer = { id: string; status: number; headers: Record<string, string>; body?: unknown };

/** Serves a batch; refused as a whole only when the envelope is malformed. */
export async function answerBatch(service: Service, request: GraphRequest): Promise<Answer> {
  const ids = requestIds(request.headers);
  try {
    callerOf(service.world, request);
    if (request.method !== "POST") throw badRequest("A batch is posted.");
    const parts = partsIn(request.body);
    const answers = await answered(service, request, parts);
    const { missingInBatch } = service.world.behaviour;
    return { status: 200, json: { responses: shuffled(answers).slice(missingInBatch) } };
  } catch (error) {
    if (error instanceof GraphError) return refusal(error, ids);
    throw error;
  }
}

function partsIn(body: Buffer): Part[] {
  let value: unknown;
  try {
    value = JSON.parse(body.toString("utf8"));
  } catch {
    throw badRequest("Invalid batch payload format.");
  }
  const { requests } = (value ?? {}) as { requests?: Part[] };
  if (!Array.isArray(requests) || requests.length === 0) throw badRequest("Invalid batch payload format.");
  if (requests.length > MOST_REQUESTS)
    throw badRequest(
      `Number of batch request steps exceeds the maximum value of ${MOST_REQUESTS}.`,
      "MaximumValueExceeded",
    );
  if (requests.some((one) => typeof one.id !== "string" || !one.method || typeof one.url !== "string"))
    throw badRequest("Each request of a batch has an id, a method and a url.");
  if (new Set(requests.map(({ id }) => id)).size < requests.length)
    throw badRequest("Request ids must be unique within the batch.");
  return requests;
}

/** Answers for all parts; one whose answer a fault withholds has none. */
async function answered(service: Service, request: GraphRequest, parts: Part[]): Promise<PartAnswer[]> {
  const done = new Map<string, PartAnswer | undefined>();
  let waiting = [...parts];
  while (waiting.length > 0) {
    const ready = waiting.filter(({ dependsOn = [] }) => dependsOn.every((id) => done.has(id)));
    if (ready.length === 0) throw badRequest("The dependencies of the batch cannot be met.");
    const some = ready.slice(0, AT_ONCE);
    const answers = await Promise.all(some.map((one) => partAnswer(service, request, one, done)));
    for (const [at, { id }] of some.entries()) done.set(id, answers[at]);
    waiting = waiting.filter((one) => !some.includes(one));
  }
  return [...done.values()].filter((one) => one !== undefined);
}

async function partAnswer(
  service: Service,
  outer: GraphRequest,
  part: Part,
  earlier: Map<string, PartAnswer | undefined>,
): Promise<PartAnswer | undefined> {
  const { id, method, url, headers = {}, body, dependsOn = [] } = part;
  const failed = dependsOn.some((one) => (earlier.get(one)?.status ?? 500) >= 400);
  if (failed) return { id, status: 424, headers: {}, body: { error: { code: "FailedDependency", message: "" } } };
  const own = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const { authorization = "" } = outer.headers;
  const bytes = body === undefined ? "" : typeof body === "string" ? body : JSON.stringify(body);
  const path = url.startsWith("/") ? url : `/${url}`;
  const request = { method: method.toUpperCase(), path, headers: { authorization, ...own }, body: Buffer.from(bytes) };
  const { answer, fault, done } = await serve(service, request, true);
  done();
  if (fault && ("hang" in fault || "cut" in fault)) return undefined;
  const content = answer.json ?? answer.bytes?.toString("base64");
  return { id, status: answer.status, headers: answer.headers ?? {}, ...(content !== undefined && { body: content }) };
}

function shuffled<One>(list: One[]): One[] {
  const keyed = list.map((one) => ({ one, key: randomInt(1_000_000) }));
  return keyed.toSorted((a, b) => a.key - b.key).map(({ one }) => one);
}
