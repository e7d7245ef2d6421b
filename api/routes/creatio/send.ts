/** A CRM's outgoing mail: answered by nothing when it was sent, and by words for its user when it was not. */
import { type Asked, type Deps, plainText } from "./operations.ts";

/** Versions before 2 notice a failure by its status only, later ones by the text, which they show. */
export function send(_deps: Deps, { version2 }: Asked): Response {
  return plainText("This Email Listener does not send mail", version2 ? 200 : 500);
}
