/** What the fake Graph server answers, and its errors in the form that Graph gives them. */
import { randomUUID } from "node:crypto";

export type Answer = {
  status: number;
  headers?: Record<string, string>;
  /** JSON, or bytes as they are; nothing for an empty body. */
  json?: object;
  bytes?: Buffer;
  /** Sent in HTTP chunks, without a length. */
  chunked?: boolean;
};

export type ErrorCode = { status: number; code: string; message: string; headers?: Record<string, string> };

/** A request that is refused. */
export class GraphError extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Record<string, string>;

  constructor({ status, code, message, headers = {} }: ErrorCode) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

export function badRequest(message: string, code = "BadRequest"): GraphError {
  return new GraphError({ status: 400, code, message });
}

export function notFound(code = "ErrorItemNotFound"): GraphError {
  return new GraphError({ status: 404, code, message: "The specified object was not found in the store." });
}

export function malformed(): GraphError {
  return badRequest("Id is malformed.", "ErrorInvalidIdMalformed");
}

export function denied(message = "Access is denied. Check credentials and try again."): GraphError {
  return new GraphError({ status: 403, code: "ErrorAccessDenied", message });
}

export function tooLarge(): GraphError {
  const message = "The message exceeds the maximum supported size.";
  return new GraphError({ status: 413, code: "ErrorMessageSizeExceeded", message });
}

/** The ids by which support finds a request. */
export type RequestIds = { requestId: string; clientRequestId: string };

export function requestIds(headers: Record<string, string>): RequestIds {
  const requestId = randomUUID();
  return { requestId, clientRequestId: headers["client-request-id"] ?? requestId };
}

/** The body of an error. */
export function errorBody(code: string, message: string, ids: RequestIds, inner?: string) {
  const date = new Date().toISOString().slice(0, 19);
  const innerError = {
    ...(inner !== undefined && { code: inner }),
    date,
    "request-id": ids.requestId,
    "client-request-id": ids.clientRequestId,
  };
  return { error: { code, message, innerError } };
}

/** An error as an answer. */
export function refusal(error: GraphError, ids: RequestIds): Answer {
  const { status, headers, code, message } = error;
  // Those who throttle say no more than this.
  const json = status === 429 ? { error: { code, message } } : errorBody(code, message, ids);
  return { status, headers, json };
}
