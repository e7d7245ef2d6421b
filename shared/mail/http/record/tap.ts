/**
 * Writes into the record of a mailbox what is requested by HTTP and what is answered: heads without credentials, and of a body what its
 * protocol's reader shows, shortened. Nothing is prepared while no record is on.
 */
import type { IncomingMessage } from "node:http";
import { asProblem } from "../../../contract/problem.ts";
import type { OpenTap, Tap } from "../../net/tap.ts";
import { bodyChunks, type RequestBody } from "../request-body.ts";
import { shownHead, shownUrl } from "./heads.ts";

/** Shows a body piece by piece: what a person may see of the bytes since the last call. Contents of messages are sizes. */
export type ShowBody = (bytes: Buffer) => string;
/** Begins to show one body. Undefined for a content type of which only the size is shown. */
export type ShowBodies = (contentType: string) => ShowBody | undefined;

export type RecordedRequest = {
  method: string;
  url: URL;
  headers: Record<string, string>;
  body: RequestBody;
  /** The whole address is a secret but for its server. */
  isAddressSecret?: boolean | undefined;
  /** The answer hangs, so each of its pieces is recorded at once. */
  isStream?: boolean | undefined;
};

/** One request that is being recorded. */
export interface RequestRecord {
  answered(message: IncomingMessage): void;
  failed(error: unknown): void;
  /** A piece of the body of the answer. */
  part(bytes: Buffer): void;
  /** The answer was read, whole or in part. */
  ended(isWhole: boolean): void;
}

/** The requests of one mailbox. */
export interface HttpTap {
  /** Writes the request down before it goes out. Undefined while no record is on. */
  begin(request: RecordedRequest): RequestRecord | undefined;
}

/** So much of a body is looked at. */
const MAX_READ = 16 * 1024;
const MAX_SHOWN = 800;
/** So many credentials are hidden, those of earlier requests among them. */
const MAX_HIDDEN = 12;

/** `secrets` gives the credentials of the moment; those that a request carries are hidden too. */
export function httpTap(
  { openTap, showBodies }: { openTap: OpenTap; showBodies: ShowBodies },
  mailbox: { id: string },
  protocol: string,
  secrets: () => readonly string[],
): HttpTap {
  const hidden: string[] = [];
  const tap = openTap(mailbox, protocol, hidden);
  let requests = 0;
  return {
    begin(request) {
      if (!tap.isOn()) return undefined;
      const credentials = [...secrets(), ...credentialsIn(request.headers)];
      for (const secret of credentials.filter((one) => one !== "" && !hidden.includes(one))) hidden.push(secret);
      hidden.splice(0, hidden.length - MAX_HIDDEN);
      requests += 1;
      return record({ tap, name: `#${requests}`, showBodies }, request);
    },
  };
}

/** What follows the scheme in Authorization. */
function credentialsIn({ authorization = "" }: Record<string, string>): string[] {
  return [authorization.slice(authorization.indexOf(" ") + 1)];
}

type Recorder = { tap: Tap; name: string; showBodies: ShowBodies };

function record({ tap, name, showBodies }: Recorder, request: RecordedRequest): RequestRecord {
  const startedAt = performance.now();
  const elapsed = () => `${Math.round(performance.now() - startedAt)} ms`;
  const { method, url, headers, body, isAddressSecret, isStream = false } = request;
  tap.line("C", `${name} ${method} ${shownUrl(url, isAddressSecret)} ${shownHead(headers)}`);
  const sent = showSent(showBodies, headers["content-type"] ?? "text/xml", body);
  if (sent !== "") tap.line("C", `${name} ${sent}`);
  let show: ShowBody | undefined;
  let [shown, read] = ["", 0];
  const writeShown = () => {
    if (shown !== "") tap.line("S", `${name} ${shorten(shown)}`);
    shown = "";
  };
  return {
    answered({ statusCode, headers: answered }) {
      show = showBodies(String(answered["content-type"] ?? ""));
      tap.line("S", `${name} ${statusCode} after ${elapsed()} ${shownHead(answered)}`);
    },
    failed(error) {
      tap.line("S", `${name} [no answer after ${elapsed()}: ${asProblem(error).message}]`);
    },
    part(bytes) {
      if (show && (isStream || (read < MAX_READ && shown.length <= MAX_SHOWN)))
        shown += show(bytes.subarray(0, MAX_READ));
      // What comes after a gap could be taken for something else.
      if (bytes.length > MAX_READ) show = undefined;
      read += bytes.length;
      if (isStream) writeShown();
    },
    ended(isWhole) {
      writeShown();
      tap.line("S", `${name} [${isWhole ? "" : "ended early, "}${read} bytes in ${elapsed()}]`);
    },
  };
}

/** The body of the request. Only the beginning of a long one is made. */
function showSent(showBodies: ShowBodies, contentType: string, body: RequestBody): string {
  const bytes = typeof body === "string" ? Buffer.byteLength(body) : body.bytes;
  if (bytes === 0) return "";
  const show = showBodies(contentType);
  let [shown, read] = ["", 0];
  if (show)
    for (const piece of bodyChunks(body)) {
      shown += show(piece.subarray(0, MAX_READ));
      read += piece.length;
      if (read > MAX_READ || shown.length > MAX_SHOWN) break;
    }
  return `[${bytes} bytes] ${shorten(shown)}`.trim();
}

function shorten(shown: string): string {
  return shown.length > MAX_SHOWN ? `${shown.slice(0, MAX_SHOWN)}… [shortened]` : shown;
}
