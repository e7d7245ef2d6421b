/**
 * Loads the Exchange library with the first Exchange mailbox and never otherwise, because it costs a second and 50 MB.
 */
import { asProblem, Problem } from "../../../contract/problem.ts";
import { problemFromCode } from "../soap/errors.ts";

export type EwsLibrary = typeof import("ews-javascript-api");

/** The library. After the first call every call gets the loaded one. */
export function loadEwsLibrary(): Promise<EwsLibrary> {
  return import("ews-javascript-api");
}

/** Turns an error of the library into the Problem of its response code. */
export function problemFromLibrary(library: EwsLibrary, error: unknown, backOffMs: number | null): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof library.ServiceResponseException) {
    const code = library.ServiceError[error.ErrorCode] ?? "ErrorInternalServerError";
    return problemFromCode({ code, backOffMs });
  }
  if (error instanceof library.ServiceRequestException && error.InnerException)
    return problemFromLibrary(library, error.InnerException, backOffMs);
  return asProblem(error);
}
