/** All that the fake Graph server knows, and what a request is to its operations. */
import type { Caller, Login } from "./login/applications.ts";
import type { Answer } from "./answers.ts";
import type { Gate } from "./gate.ts";
import type { DeltaTokens } from "./mail/delta-tokens.ts";
import type { Push } from "./push/subscriptions.ts";
import type { Sent, Upload } from "./sending/kept.ts";
import type { Mailbox, Message, Store } from "./store/store.ts";

/** How the server does what Microsoft's documents leave open, or do in more than one way. May be changed at any time. */
export type Behaviour = {
  /** How a message list and a delta page take their time. */
  latencyMs: number;
  /** What an unknown user is called. */
  unknownUser: "ErrorInvalidUser" | "ResourceNotFound" | "Request_ResourceNotFound";
  /** After so many items a filtered first round of delta ends, as if that were all. */
  filteredDeltaCap: number;
  /** So many empty pages with a nextLink come before each page of delta. */
  emptyPages: number;
  /** Every page of delta begins with the last item of the page before. */
  repeatsItems: boolean;
  /** A message of which only the read state changed is reported with id, isRead and parentFolderId alone. */
  thinsItems: boolean;
  /** Delta with changeType=created reports changes of read state as well. */
  leaksChanges: boolean;
  /** Delta by immutable ids does not report a message that left its folder and came back. */
  forgetsReturned: boolean;
  /** In which order a page of delta is. */
  order: "natural" | "reversed" | "shuffled";
  /** The content of a message in another wrapping at each download, as Exchange makes it. */
  rewritesMime: boolean;
  /** Content of more bytes than these is not given: 504. */
  mostValueBytes: number;
  /** So long after its answer a message is sent and filed. */
  transportMs: number;
  /** Messages that are sent get a Message-ID of the server's. */
  replacesMessageIds: boolean;
  /** So many answers of each batch are missing. */
  missingInBatch: number;
  /** What becomes of an id that cannot be translated. */
  untranslated: "missing" | "error";
  /** How long the addresses of a subscription have to answer. */
  validationMs: number;
  /** Addresses of subscriptions may be http, which Graph does not allow and tests need. */
  plainNotifications: boolean;
};

export const BEHAVIOUR: Behaviour = {
  latencyMs: 1,
  unknownUser: "ErrorInvalidUser",
  filteredDeltaCap: 5000,
  emptyPages: 0,
  repeatsItems: false,
  thinsItems: true,
  leaksChanges: false,
  forgetsReturned: true,
  order: "natural",
  rewritesMime: true,
  mostValueBytes: Number.POSITIVE_INFINITY,
  transportMs: 20,
  replacesMessageIds: false,
  missingInBatch: 0,
  untranslated: "error",
  validationMs: 10_000,
  plainNotifications: true,
};

/** All freedoms that the documents and the field know at once; for `Object.assign(graph.behaviour, HOSTILE)`. */
export const HOSTILE: Partial<Behaviour> = {
  emptyPages: 1,
  repeatsItems: true,
  leaksChanges: true,
  order: "shuffled",
  replacesMessageIds: true,
  missingInBatch: 1,
  untranslated: "missing",
};

export type World = {
  /** Without /v1.0. */
  root: string;
  /** Of the server that takes the pieces of large files. */
  uploadRoot: string;
  store: Store;
  login: Login;
  behaviour: Behaviour;
  gate: Gate;
  deltaTokens: DeltaTokens;
  /** Messages whose content is refused, by immutable id. */
  refused: Map<string, Refusal>;
  uploads: Map<string, Upload>;
  sent: Sent[];
  push: Push;
};

export type Refusal = { status: number; code: string; message: string };

export type GraphRequest = {
  method: string;
  /** Below /v1.0, with the query. */
  path: string;
  headers: Record<string, string>;
  body: Buffer;
};

/** One request to an operation. */
export type Ask = {
  world: World;
  request: GraphRequest;
  /** The path without the query, below /v1.0. */
  path: string;
  query: URLSearchParams;
  prefer: Prefer;
  caller: Caller;
  /** What stands for each name of the pattern: ":folder". */
  named: Record<string, string>;
};

/** One request to an operation on a mailbox. */
export type MailAsk = Ask & { mailbox: Mailbox };

export type Prefer = { immutable: boolean; pageSize: number | undefined; text: boolean };

export type Operation = (ask: Ask) => Answer | Promise<Answer>;
export type MailOperation = (ask: MailAsk) => Answer | Promise<Answer>;

/** The id of a message as this request wants it. */
export function idFor({ prefer }: Pick<Ask, "prefer">, message: Pick<Message, "id" | "immutableId">): string {
  return prefer.immutable ? message.immutableId : message.id;
}
