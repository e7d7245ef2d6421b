/** SOAP as the record of a mailbox shows it: its elements, and only the values that belong to the protocol itself. */
import { shownId, sizeOf, withoutQuotes } from "../../http/record/heads.ts";
import type { ShowBodies, ShowBody } from "../../http/record/tap.ts";
import { type Attributes, protocolProblem, unescapeXml, xmlParser } from "./xml.ts";

/** What these elements contain is shown. */
const SHOWN = new Set([
  ..."ResponseCode faultcode BaseShape FolderClass TotalCount UnreadCount ChildFolderCount MaxChangesReturned".split(
    " ",
  ),
  ..."IncludesLastItemInRange IncludesLastFolderInRange SyncScope EventType StatusFrequency Timeout".split(" "),
  ..."ConnectionTimeout ConnectionStatus MoreEvents DateTimeReceived DateTimeCreated Size IsRead".split(" "),
  ..."IncludeMimeContent RequestedServerVersion ErrorCode LineNumber LinePosition EwsUrl Setting".split(" "),
  // Names of folders.
  "DisplayName",
]);
/** Words of the server, which may quote what it was sent. */
const WORDS = new Set(["MessageText", "faultstring", "ErrorMessage"]);
const IDS = new Set(["SubscriptionId", "Watermark", "PreviousWatermark"]);
const SHOWN_ATTRIBUTES = new Set([
  ..."FieldURI PropertyTag PropertyType PropertyId PropertyName DistinguishedPropertySetId".split(" "),
  ..."ResponseClass Traversal MaxEntriesReturned Offset BasePoint IndexedPagingOffset TotalItemsInView".split(" "),
  ..."IncludesLastItemInRange MajorVersion MinorVersion MajorBuildNumber MinorBuildNumber Version".split(" "),
  ..."MessageDisposition SaveItemToFolder DeleteType SuppressReadReceipts ConflictResolution Order".split(" "),
  ..."ContainmentMode ContainmentComparison SubscribeToAllFolders".split(" "),
]);
/** Versions of items, which nobody looks for. */
const LEFT_OUT = "ChangeKey";
/** The frame of every envelope. */
const FRAME = new Set(["Envelope", "Header", "Body"]);
const MAX_TEXT = 200;
const KEPT_BYTES = 2_000;
const MAX_DEPTH = 100;

/** XML as its elements; of anything else there is the size. */
export const showSoap: ShowBodies = (contentType) => (/xml/i.test(contentType) ? showXml() : undefined);

function showXml(): ShowBody {
  let shown = "";
  const path: string[] = [];
  let text: Buffer[] = [];
  let [kept, bytes] = [0, 0];
  const endText = () => {
    if (bytes > 0) shown += shownText(path, Buffer.concat(text), bytes);
    [text, kept, bytes] = [[], 0, 0];
  };
  const parse = xmlParser({
    opened(name, attributes) {
      endText();
      path.push(name);
      if (path.length > MAX_DEPTH) throw protocolProblem("elements in elements without end");
      if (!FRAME.has(name)) shown += `<${name}${shownAttributes(attributes)}>`;
    },
    text(part) {
      bytes += part.length;
      if (kept < KEPT_BYTES) text.push(Buffer.from(part.subarray(0, KEPT_BYTES)));
      kept += part.length;
    },
    closed(name) {
      endText();
      path.pop();
      if (!FRAME.has(name)) shown += "</>";
    },
  });
  let isXml = true;
  return (part) => {
    if (!isXml) return "";
    try {
      parse(part);
    } catch {
      // The reader of the answer reports it. The record says where it stopped.
      isXml = false;
      shown += "[the rest is no XML]";
    }
    const now = shown;
    shown = "";
    return now;
  };
}

function shownText(path: readonly string[], raw: Buffer, bytes: number): string {
  const name = path.at(-1) ?? "";
  const text = unescapeXml(raw.toString("utf8")).trim();
  if (text === "") return "";
  // How long a busy server asks to wait. Elsewhere a `Value` is of a message.
  const isDetail = name === "Value" && path.includes("MessageXml") && /^\d{1,10}$/.test(text);
  if (SHOWN.has(name) || isDetail) return text.slice(0, MAX_TEXT);
  if (WORDS.has(name)) return withoutQuotes(text);
  if (IDS.has(name)) return shownId(text);
  return `[${bytes} bytes]`;
}

function shownAttributes(attributes: Attributes): string {
  return Object.entries(attributes)
    .filter(([name]) => name !== LEFT_OUT)
    .map(([name, value]) => {
      if (name === "Id") return ` ${name}="${shownId(value)}"`;
      return ` ${name}="${SHOWN_ATTRIBUTES.has(name) ? value.slice(0, MAX_TEXT) : sizeOf(value)}"`;
    })
    .join("");
}
