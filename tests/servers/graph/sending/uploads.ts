/** Upload sessions: a large file comes in pieces, in order, to another address and without a token. */
import { randomUUID } from "node:crypto";
import type * as Graph from "@microsoft/microsoft-graph-types";
import type { HttpRequest } from "../../exchange/http.ts";
import { type Answer, badRequest, GraphError, refusal, type RequestIds, requestIds } from "../answers.ts";
import { answerOf } from "../failing.ts";
import type { Fault } from "../faults.ts";
import { parametersIn } from "../mail/folders.ts";
import { newId } from "../store/ids.ts";
import type { MailOperation, World } from "../world.ts";
import type { Upload } from "./kept.ts";
import { attach } from "./attachments.ts";
import { namedDraft } from "./drafts.ts";

const MB = 1024 * 1024;
const MOST_BYTES = 150 * MB;
/** Smaller files are to be added by one request. Measured in 2020; the documents say 3 MB. */
const LEAST_BYTES = 2 * MB;
const MOST_PIECE = 4 * MB;
const LIFETIME_MS = 3 * 60 * 60 * 1000;

export const createUploadSession: MailOperation = (ask) => {
  const message = namedDraft(ask);
  type Wish = { attachmentItem?: Graph.AttachmentItem & { contentId?: string } };
  const item = parametersIn<Wish>(ask).attachmentItem;
  if (item?.attachmentType !== "file" || !item.name || !item.size)
    throw badRequest("The attachmentType, name and size are required.", "ErrorInvalidRequest");
  if (item.size > MOST_BYTES)
    throw badRequest("The attachment exceeds the maximum size.", "ErrorAttachmentSizeLimitExceeded");
  if (item.size < LEAST_BYTES)
    throw badRequest(
      "Attachment size must be greater than the minimum size.",
      "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize",
    );
  const id = randomUUID();
  const expiresAt = Date.now() + LIFETIME_MS;
  ask.world.uploads.set(id, {
    message,
    clientId: ask.caller.clientId,
    name: item.name,
    type: item.contentType ?? "application/octet-stream",
    contentId: item.isInline ? item.contentId : undefined,
    size: item.size,
    pieces: [],
    received: 0,
    expiresAt,
  });
  const { uploadRoot, login } = ask.world;
  const place = `Users('${ask.mailbox.guid}@${login.tenant}')/Messages('${message.id}')/AttachmentSessions('${id}')`;
  const json = {
    "@odata.context": `${ask.world.root}/v1.0/$metadata#microsoft.graph.uploadSession`,
    uploadUrl: `${uploadRoot}/api/v2.0/${place}?authtoken=${randomUUID()}`,
    expirationDateTime: new Date(expiresAt).toISOString(),
    nextExpectedRanges: ["0-"],
  } satisfies Graph.UploadSession & { "@odata.context": string };
  return { status: 201, json };
};

/** A request to the upload server. */
export type UploadRequest = { at: Date; method: string; range: string | undefined; bytes: number; status: number };
export type UploadService = { world: World; requests: UploadRequest[] };

/** Answers one request to the upload server. */
export function answerUpload(
  { world, requests }: UploadService,
  request: HttpRequest,
  fault: Fault | undefined,
): Answer {
  const { method, headers, body } = request;
  const ids = requestIds(headers);
  const answer = answerOf(fault, ids) ?? tried(world, request, ids);
  requests.push({ at: new Date(), method, range: headers["content-range"], bytes: body.length, status: answer.status });
  return answer;
}

function tried(world: World, request: HttpRequest, ids: RequestIds): Answer {
  try {
    return uploaded(world, request);
  } catch (error) {
    if (error instanceof GraphError) return refusal(error, ids);
    throw error;
  }
}

function uploaded(world: World, { method, path, headers, body }: HttpRequest): Answer {
  if (headers["authorization"] !== undefined)
    throw new GraphError({ status: 401, code: "InvalidAudience", message: "The audience claim value is invalid." });
  const [, id = ""] = /AttachmentSessions\('([^']*)'\)/.exec(decodeURIComponent(path)) ?? [];
  const upload = world.uploads.get(id);
  if (!upload || upload.expiresAt < Date.now())
    throw new GraphError({ status: 404, code: "ErrorItemNotFound", message: "The upload session was not found." });
  if (method === "DELETE") {
    world.uploads.delete(id);
    return { status: 204 };
  }
  if (method === "GET") return progress(world, upload);
  if (method !== "PUT") throw new GraphError({ status: 405, code: "ErrorInvalidRequest", message: "Use PUT." });
  return piece(world, id, upload, { range: headers["content-range"] ?? "", body });
}

function progress({ uploadRoot }: World, { received, expiresAt }: Upload): Answer {
  const json = {
    "@odata.context": `${uploadRoot}/api/v2.0/$metadata#Users/Messages/AttachmentSessions/$entity`,
    expirationDateTime: new Date(expiresAt).toISOString(),
    nextExpectedRanges: [String(received)],
  } satisfies Graph.UploadSession & { "@odata.context": string };
  return { status: 200, json };
}

function piece(world: World, id: string, upload: Upload, { range, body }: { range: string; body: Buffer }): Answer {
  const [, from, to, total] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(range) ?? [];
  if (total === undefined) throw badRequest("The Content-Range header is missing or malformed.", "ErrorInvalidRequest");
  if (Number(total) !== upload.size || Number(to) - Number(from) + 1 !== body.length)
    throw badRequest("The Content-Range does not fit the content.", "ErrorInvalidRequest");
  if (body.length > MOST_PIECE)
    throw new GraphError({ status: 413, code: "RequestEntityTooLarge", message: "The piece is larger than 4 MB." });
  if (Number(from) !== upload.received)
    throw new GraphError({ status: 416, code: "InvalidRange", message: `Expected byte ${upload.received}.` });
  const { mailbox } = upload.message.folder;
  world.gate.upload(upload.clientId, mailbox.guid, body.length);
  upload.pieces.push(body);
  upload.received += body.length;
  if (upload.received < upload.size) return progress(world, upload);
  world.uploads.delete(id);
  const { name, type, contentId, message, pieces } = upload;
  const file = { id: newId("attachment", mailbox.guid), name, type, contentId, content: Buffer.concat(pieces) };
  attach({ world }, message, file);
  const place = `Users('${mailbox.guid}')/Messages('${message.id}')/Attachments('${file.id}')`;
  return { status: 201, headers: { Location: `${world.uploadRoot}/api/v2.0/${place}` } };
}
