/** The HTTP side of the fake Graph server and of its login server. */
import { setTimeout as sleep } from "node:timers/promises";
import type { HttpReply, HttpRequest } from "../exchange/http.ts";
import { answerBatch } from "./batch.ts";
import { answerOf } from "./failing.ts";
import { type Answer, errorBody, requestIds } from "./answers.ts";
import type { Fault, Take } from "./faults.ts";
import { authorize, configuration } from "./login/authorize.ts";
import type { Login } from "./login/applications.ts";
import { answerTokenRequest } from "./login/token-endpoint.ts";
import { answerUpload, type UploadService } from "./sending/uploads.ts";
import { serve, type Service } from "./serve.ts";

const JSON_TYPE = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8";

/** Answers one request to Graph. */
export async function receive(service: Service, request: HttpRequest, reply: HttpReply): Promise<void> {
  const { method, headers, body } = request;
  const [, version = "", path = ""] = /^\/([^/?]*)(.*)$/s.exec(request.path) ?? [];
  if (version !== "v1.0") {
    const json = errorBody("BadRequest", `Invalid version: ${version}`, requestIds(headers));
    return send({ status: 400, json }, undefined, reply);
  }
  if (/^\/(\$|%24)batch$/i.test(path))
    return send(await answerBatch(service, { method, path, headers, body }), undefined, reply);
  const { answer, fault, done } = await serve(service, { method, path, headers, body });
  if (fault && "hang" in fault) return reply.closed(done);
  await send(answer, fault, reply);
  return done();
}

/** A request to the login server, without its secrets. */
export type TokenRequest = {
  at: Date;
  tenant: string;
  clientId: string;
  grantType: string;
  scope: string;
  status: number;
};

export type LoginService = { login: Login; origin: string; take: Take; requests: TokenRequest[] };

/** Answers one request to the login server. */
export async function receiveLogin(service: LoginService, request: HttpRequest, reply: HttpReply): Promise<void> {
  const [path = "", query] = request.path.split(/\?(.*)/s);
  const [, tenant = "", place = ""] = /^\/([^/]+)\/(.*)$/.exec(path) ?? [];
  const asked = `${request.method} ${place}`;
  if (asked === "GET oauth2/v2.0/authorize")
    return send(authorize(service.login, new URLSearchParams(query)), undefined, reply);
  if (asked === "GET v2.0/.well-known/openid-configuration")
    return send(configuration(service.origin, tenant), undefined, reply);
  if (asked !== "POST oauth2/v2.0/token") return send({ status: 404, json: {} }, undefined, reply);
  const form = new URLSearchParams(request.body.toString());
  const fault = service.take("token", form.get("client_id") ?? "");
  if (fault && "delayMs" in fault) await sleep(fault.delayMs);
  const ids = requestIds(request.headers);
  const { login, origin } = service;
  const answer =
    answerOf(fault, ids) ?? answerTokenRequest(login, origin, decodeURIComponent(tenant), request.body.toString());
  service.requests.push({
    at: new Date(),
    tenant,
    clientId: form.get("client_id") ?? "",
    grantType: form.get("grant_type") ?? "",
    scope: form.get("scope") ?? "",
    status: answer.status,
  });
  return send(answer, fault, reply);
}

/** Answers one request to the upload server; faults call it "upload". */
export async function receiveUpload(
  service: UploadService & { take: Take },
  request: HttpRequest,
  reply: HttpReply,
): Promise<void> {
  const fault = service.take("upload", "");
  if (fault && "delayMs" in fault) await sleep(fault.delayMs);
  return send(answerUpload(service, request, fault), fault, reply);
}

const PIECE = 64 * 1024;

/** Sends the answer, as far as the fault lets it. */
export async function send(answer: Answer, fault: Fault | undefined, reply: HttpReply): Promise<void> {
  if (fault && "hang" in fault) return;
  if (fault && "cut" in fault && typeof fault.cut === "string") return reply.cut();
  if (fault && "cut" in fault && typeof fault.cut === "number") reply.cutAfter(fault.cut);
  const { status, json, bytes = Buffer.from(json ? JSON.stringify(json) : "") } = answer;
  const headers = { Date: new Date().toUTCString(), ...(json && { "Content-Type": JSON_TYPE }), ...answer.headers };
  const slow = fault && "pieceBytes" in fault ? fault : undefined;
  if (!answer.chunked && !slow) return reply.whole(status, headers, bytes);
  const { pieceBytes = PIECE, everyMs = 0 } = slow ?? {};
  reply.begin(status, headers);
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    reply.write(bytes.subarray(at, at + pieceBytes));
    if (everyMs > 0) await sleep(everyMs);
  }
  return reply.end();
}
