/** The dialects an endpoint can speak, one encoder each: a missing one is a compile error. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { encodeCreatio } from "./creatio/dialect.ts";
import type { Encode } from "./endpoint.ts";
import { encodeWebhook } from "./webhook.ts";

export type Dialect = Mailbox["deliver"]["dialect"];

export const DIALECTS: Record<Dialect, Encode> = { webhook: encodeWebhook, creatio: encodeCreatio };
