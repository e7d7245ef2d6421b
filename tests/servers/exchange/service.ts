/** One request to Exchange.asmx: who asks, what for, whether something goes wrong on command, and the answer. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Ask, Operation, World } from "./ask.ts";
import { DIRECTORY_OPERATIONS } from "./directory.ts";
import type { Fault } from "./faults.ts";
import { FIND_OPERATIONS } from "./find.ts";
import { FOLDER_OPERATIONS } from "./folders.ts";
import type { HttpReply, HttpRequest } from "./http.ts";
import { type Beat, notifyOperations } from "./notify.ts";
import {
  answer,
  envelope,
  EwsError,
  failure,
  faultXml,
  readRequest,
  type Request,
  SoapFault,
  type Style,
} from "./soap.ts";
import { validate } from "./schema.ts";
import type { Mailbox } from "./store.ts";
import { stream } from "./streams.ts";
import { SYNC_OPERATIONS } from "./sync.ts";
import { WRITE_OPERATIONS } from "./write.ts";

/** A request as the server has seen it. */
export type Call = {
  operation: string;
  user: string;
  anchor: string | undefined;
  impersonated: string | undefined;
  headers: Record<string, string>;
  /** The connection it came on. */
  wire: number;
  body: string;
  at: Date;
};

export type Service = {
  world: World;
  style: Style;
  beat: Beat;
  calls: Call[];
  take(operation: string, user: string): Fault | undefined;
};

const TYPE = { "Content-Type": "text/xml; charset=utf-8" };

/** Answers one request of a user who has logged in. */
export async function serve(service: Service, request: HttpRequest, user: Mailbox, reply: HttpReply): Promise<void> {
  const text = request.body.toString("utf8");
  const headers = { ...TYPE, ...usualHeaders(request) };
  try {
    const asked = readRequest(text);
    const operation = asked.operation.name;
    service.calls.push({
      operation,
      user: user.address,
      anchor: request.headers["x-anchormailbox"],
      impersonated: asked.impersonated,
      headers: request.headers,
      wire: request.wire.id,
      body: text.length > 100_000 ? `${text.slice(0, 100_000)}...` : text,
      at: new Date(),
    });
    const fault = service.take(operation, asked.impersonated ?? user.address);
    if (fault && (await failed(service, asked, fault, reply))) return;
    validate(asked.operation);
    const ask = askOf(service, asked, user);
    if (operation === "GetStreamingEvents") return streamed(service, ask, reply, headers);
    const body = await perform(service, ask);
    if (fault && "cut" in fault && fault.cut === "after") return reply.cut();
    reply.whole(200, headers, envelope(service.style, body));
  } catch (error) {
    const own =
      error instanceof SoapFault ? error : new SoapFault("ErrorInternalServerError", { message: said(error) });
    reply.whole(500, headers, faulted(service.style, own));
  }
}

/** A mistake of this server, told to the client so that a test that fails shows it. */
function said(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

function faulted(style: Style, fault: SoapFault): string {
  return envelope(style, faultXml(fault, style.prefix ?? "s"));
}

function usualHeaders(request: HttpRequest): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {
    "request-id": `00000000-0000-0000-0000-${String(request.wire.id).padStart(12, "0")}`,
    "X-FEServer": "EX01",
    "X-BEServer": "EX01",
    "X-AspNet-Version": "4.0.30319",
    "X-Powered-By": "ASP.NET",
  };
  if (!/exchangecookie=/.test(request.headers["cookie"] ?? "")) {
    headers["Set-Cookie"] = [
      `exchangecookie=${"0".repeat(32)}; path=/; HttpOnly`,
      `X-BackEndCookie=${Buffer.from(request.headers["x-anchormailbox"] ?? "").toString("hex")}==; path=/EWS; HttpOnly`,
    ];
  }
  if (request.headers["x-preferserveraffinity"]?.toLowerCase() === "true") {
    headers["X-BackEndOverrideCookie"] = "EX01~1943310282";
    headers["Set-Cookie"] = [
      ...[headers["Set-Cookie"] ?? []].flat(),
      "X-BackEndOverrideCookie=EX01~1943310282; path=/",
    ];
  }
  return headers;
}

/** Does what the fault says; true if that was the whole answer. */
async function failed(service: Service, asked: Request, fault: Fault, reply: HttpReply): Promise<boolean> {
  if ("delayMs" in fault) await sleep(fault.delayMs);
  else if ("hang" in fault) return true;
  else if ("redirect" in fault) reply.whole(302, { Location: fault.redirect }, "");
  else if ("soapFault" in fault) throw new SoapFault(fault.soapFault, fault);
  else if ("responseCode" in fault) reply.whole(200, TYPE, envelope(service.style, refused(asked, fault)));
  else if ("status" in fault) {
    const after: Record<string, string> =
      fault.retryAfter === undefined ? {} : { "Retry-After": String(fault.retryAfter) };
    reply.whole(
      fault.status,
      { "Content-Type": "text/html", ...after, ...fault.headers },
      fault.body ?? "<html></html>",
    );
  } else if (fault.cut === "before") reply.cut();
  else if (typeof fault.cut === "number") reply.cutAfter(fault.cut);
  return !("delayMs" in fault) && !("cut" in fault && fault.cut !== "before");
}

const LISTS = ["ItemIds", "Items", "ItemChanges", "FolderIds", "ParentFolderIds", "Attachments", "AttachmentIds"];

function refused({ operation }: Request, fault: Extract<Fault, { responseCode: string }>): string {
  const list = operation.children.find(({ name }) => LISTS.includes(name))?.children ?? [operation];
  const error = new EwsError(fault.responseCode, fault);
  return answer(
    operation.name,
    list.map(() => failure(operation.name, error)),
  );
}

const VERSIONS = [
  "Exchange2007",
  "Exchange2007_SP1",
  "Exchange2010",
  "Exchange2010_SP1",
  "Exchange2010_SP2",
  "Exchange2013",
  "Exchange2013_SP1",
  "Exchange2015",
  "Exchange2016",
];

function askOf({ world }: Service, asked: Request, user: Mailbox): Ask {
  const newest = VERSIONS.indexOf(world.build[1] === 0 ? "Exchange2013_SP1" : "Exchange2016");
  const version = VERSIONS.indexOf(asked.version ?? "Exchange2007");
  if (version < 0 || version > newest)
    throw new SoapFault("ErrorInvalidServerVersion", { message: "The specified server version is invalid." });
  if (user.expired) throw new SoapFault("ErrorPasswordExpired");
  const ask: Ask = { world, user, acting: user, request: asked.operation };
  if (asked.impersonated === undefined) return ask;
  const target = world.store.mailboxes.get(asked.impersonated.toLowerCase());
  if (!target) throw new SoapFault("ErrorNonExistentMailbox");
  if (!target.impersonators.has(user.login) && !target.impersonators.has(user.address)) {
    throw new SoapFault("ErrorImpersonateUserDenied");
  }
  return { ...ask, acting: target };
}

async function perform(service: Service, ask: Ask): Promise<string> {
  const { name } = ask.request;
  const operations: Record<string, Operation> = {
    ...FOLDER_OPERATIONS,
    ...SYNC_OPERATIONS,
    ...FIND_OPERATIONS,
    ...WRITE_OPERATIONS,
    ...notifyOperations(service.beat),
    ...DIRECTORY_OPERATIONS,
  };
  const operation = operations[name];
  if (!operation) {
    throw new SoapFault("ErrorInvalidRequest", { message: `The request is invalid: ${name}.` });
  }
  return operation(ask);
}

function streamed(service: Service, ask: Ask, reply: HttpReply, headers: Record<string, string | string[]>): void {
  let begun = false;
  stream(ask, service.beat, {
    send(body) {
      if (!begun) reply.begin(200, headers);
      begun = true;
      reply.write(envelope(service.style, body, true));
    },
    end: () => reply.end(),
    closed: (work) => reply.closed(work),
  });
}
