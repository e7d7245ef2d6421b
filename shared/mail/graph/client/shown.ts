/** JSON as the record of a mailbox shows it: its names, and only the values that belong to Microsoft Graph itself. */
import { shownId, sizeOf, withoutQuotes } from "../../http/record/heads.ts";
import type { ShowBodies, ShowBody } from "../../http/record/tap.ts";

/** The texts that these names have are shown. */
const SHOWN = new Set([
  ..."code date request-id client-request-id wellKnownName receivedDateTime createdDateTime changeType".split(" "),
  ..."expirationDateTime lastModifiedDateTime sentDateTime resource @odata.type".split(" "),
  // Names of folders.
  "displayName",
]);
const IDS = new Set(["id", "parentFolderId", "destinationId", "subscriptionId"]);
const MAX_TEXT = 200;
const MAX_NAME = 60;
const MAX_WORD = 24;

/** A text, a sign, or a word such as a number. One that is not complete matches nothing. */
const TOKEN = /\s*("(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+)/y;

/** JSON as its names; of anything else there is the size. */
export const showJson: ShowBodies = (contentType) => (/json/i.test(contentType) ? showPieces() : undefined);

function showPieces(): ShowBody {
  let rest = Buffer.alloc(0);
  let name: string | undefined;
  return (part) => {
    rest = Buffer.concat([rest, part]);
    const text = rest.toString("latin1");
    TOKEN.lastIndex = 0;
    let [shown, at] = ["", 0];
    for (let found = TOKEN.exec(text); found; found = TOKEN.exec(text)) {
      // Whatever touches the end may go on in the next piece.
      if (TOKEN.lastIndex >= text.length && !/[}\]]$/.test(found[0])) break;
      at = TOKEN.lastIndex;
      const token = Buffer.from(found[1] ?? "", "latin1").toString("utf8");
      const isName = token.startsWith('"') && /^\s*:/.test(text.slice(at, at + MAX_WORD));
      shown += isName ? token.slice(0, MAX_NAME) : shownValue(name, token);
      if (isName) name = token.slice(1, -1);
      else if (token !== ":") name = undefined;
    }
    rest = rest.subarray(at);
    return shown;
  };
}

function shownValue(name: string | undefined, token: string): string {
  if (!token.startsWith('"'))
    return /^(?:[{}[\],:]|true|false|null|-?[\d.eE+-]+)$/.test(token) ? token.slice(0, MAX_WORD) : sizeOf(token);
  const value = token.slice(1, -1);
  if (name !== undefined && SHOWN.has(name)) return JSON.stringify(value.slice(0, MAX_TEXT));
  if (name !== undefined && IDS.has(name)) return JSON.stringify(shownId(value));
  if (name === "message") return JSON.stringify(withoutQuotes(value));
  return sizeOf(value);
}
