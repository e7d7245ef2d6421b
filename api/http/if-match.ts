/** Changes of a mailbox or an application that the client has seen in its present revision. */
import { Problem } from "../../shared/contract/problem.ts";

/**
 * If-Match (RFC 9110 section 13.1.1) is optional. Without it the last writer wins, unless two write at the same moment.
 */
export function checkRevision(request: Request, revision: number | undefined): void {
  const ifMatch = request.headers.get("if-match");
  if (ifMatch === null || (ifMatch.trim() === "*" && revision !== undefined)) return;
  const tags = ifMatch.split(",").map((entry) => entry.trim());
  if (revision !== undefined && tags.includes(`"${revision}"`)) return;
  const has = revision === undefined ? "Nothing has this id" : `It has revision "${revision}"`;
  throw new Problem("precondition", `${has}, If-Match asks for ${ifMatch.slice(0, 100)}.`, { retry: "never" });
}
