/** Answers that come before the answer: `100 Continue` and others (RFC 9110 section 15.2). */
import type { ClientRequest } from "node:http";
import { Problem } from "../contract/problem.ts";

const MAX_INTERIM_ANSWERS = 10;

/** Ends the request with an `excess` Problem when the server sends many answers of 1xx instead of an answer. */
export function limitInterimAnswers(request: ClientRequest): void {
  let count = 0;
  request.on("information", () => {
    if (++count > MAX_INTERIM_ANSWERS)
      request.destroy(
        new Problem("excess", `The server sent over ${MAX_INTERIM_ANSWERS} answers of HTTP 1xx and no other`),
      );
  });
}
