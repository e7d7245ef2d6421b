/**
 * How a Creatio reads what the listener sends it: WCF's DataContract reader for JSON. Names are case-sensitive, unknown members are
 * ignored, missing ones are null, and code behind it fails on null where the contract says so.
 */

/** What a CRM answers to a body it cannot take: 400 when it cannot be read, 500 when code behind the reader fails on it. */
export class Refused extends Error {
  readonly status: number;
  constructor(status: number, why: string) {
    super(why);
    this.status = status;
  }
}

export type Attachment = { Id: string; Name: string; IsInline: boolean; Base64Data: string };
export type Email = {
  Id: string | null;
  MessageId: string | null;
  InReplyTo: string | null;
  References: string | null;
  Subject: string | null;
  Body: string;
  IsHtmlBody: boolean;
  Sender: string;
  Recepients: string[];
  CopyRecepients: string[];
  BlindCopyRecepients: string[];
  SendDateTimeStamp: bigint;
  Importance: number;
  Headers: string[];
  Attachments: Attachment[];
};
export type LoadEmailCommand = {
  emails: Email[];
  info: { Id: string | null; MailboxId: string | null; SysAdminUnit: string | null; TimeZoneId: string | null };
};
export type MailboxState = {
  MailboxId: string;
  SenderEmailAddress: string | null;
  BpmUserName: string | null;
  BpmUserWorkspace: string | null;
  Avaliable: boolean;
  ExceptionClassName: string | null;
  ExceptionMessage: string | null;
  Context: string | null;
};
export type MailboxInfo = { MailboxId: string; SenderEmailAddress: string | null; BpmUserName: string | null };

const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

type Members = Record<string, unknown>;

export function readObject(raw: string): Members {
  let value: unknown;
  try {
    value = JSON.parse(raw);
  } catch {
    throw new Refused(400, "not JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Refused(400, "not an object");
  return value as Members;
}

export function readLoadEmailCommand(raw: string): LoadEmailCommand {
  const command = readObject(raw);
  const emails = listOf(command, "Emails", "object");
  const info = command["SubscriptionInfo"] as Members | null | undefined;
  if (!info) throw new Refused(500, "SubscriptionInfo is null");
  const stamps = [...raw.matchAll(/"SendDateTimeStamp":("?)(-?[0-9.eE+]+)/g)];
  return {
    emails: (emails ?? []).map((email, index) => readEmail(email as Members, stamps[index])),
    info: {
      Id: textOf(info, "Id"),
      MailboxId: guidOf(info, "MailboxId"),
      SysAdminUnit: textOf(info, "SysAdminUnit"),
      TimeZoneId: textOf(info, "TimeZoneId"),
    },
  };
}

function readEmail(email: Members, stamp: RegExpMatchArray | undefined): Email {
  if (email === null) throw new Refused(500, "Emails[0] is null");
  const [, quote, digits = ""] = stamp ?? [];
  if (quote || !/^\d+$/.test(digits)) throw new Refused(400, `SendDateTimeStamp ${digits} is no unquoted integer`);
  const ticks = BigInt(digits);
  if (ticks > 3_155_378_975_999_999_999n) throw new Refused(500, "SendDateTimeStamp is beyond DateTime");
  return {
    Id: textOf(email, "Id"),
    MessageId: textOf(email, "MessageId"),
    InReplyTo: textOf(email, "InReplyTo"),
    References: textOf(email, "References"),
    Subject: textOf(email, "Subject"),
    Body: required(textOf(email, "Body"), "Body"),
    IsHtmlBody: flagOf(email, "IsHtmlBody"),
    Sender: required(textOf(email, "Sender"), "Sender"),
    Recepients: required(listOf(email, "Recepients", "string"), "Recepients") as string[],
    CopyRecepients: required(listOf(email, "CopyRecepients", "string"), "CopyRecepients") as string[],
    BlindCopyRecepients: required(listOf(email, "BlindCopyRecepients", "string"), "BlindCopyRecepients") as string[],
    SendDateTimeStamp: ticks,
    Importance: enumOf(email, "Importance"),
    Headers: headersOf(email),
    Attachments: required(listOf(email, "Attachments", "object"), "Attachments").map((one) =>
      readAttachment(one as Members),
    ),
  };
}

function headersOf(email: Members): string[] {
  const headers = required(listOf(email, "Headers", "string"), "Headers") as string[];
  const wrong = headers.find((header) => !/^[^=\r\n]+=[^\r\n]*$/.test(header));
  if (wrong !== undefined) throw new Refused(500, `a header is not Name=Value in one line: ${wrong}`);
  return headers;
}

function readAttachment(one: Members): Attachment {
  const data = required(textOf(one, "Base64Data"), "Base64Data");
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(data)) throw new Refused(500, "Base64Data is not base64");
  const id = required(textOf(one, "Id"), "Attachment.Id");
  if (/[<>]/.test(id)) throw new Refused(500, "a Content-Id has angle brackets");
  return { Id: id, Name: textOf(one, "Name") ?? "", IsInline: flagOf(one, "IsInline"), Base64Data: data };
}

export function readMailboxState(raw: string): MailboxState {
  const state = readObject(raw);
  const available = flagOf(state, "Avaliable");
  const exception = textOf(state, "ExceptionClassName");
  const message = textOf(state, "ExceptionMessage");
  if (!available && (exception === null || message === null))
    throw new Refused(500, "an exception without class or message");
  return {
    MailboxId: required(guidOf(state, "MailboxId"), "MailboxId"),
    SenderEmailAddress: textOf(state, "SenderEmailAddress"),
    BpmUserName: textOf(state, "BpmUserName"),
    BpmUserWorkspace: textOf(state, "BpmUserWorkspace"),
    Avaliable: available,
    ExceptionClassName: exception,
    ExceptionMessage: message,
    Context: textOf(state, "Context"),
  };
}

export function readMailboxInfo(raw: string): MailboxInfo {
  const info = readObject(raw);
  return {
    MailboxId: required(guidOf(info, "MailboxId"), "MailboxId"),
    SenderEmailAddress: textOf(info, "SenderEmailAddress"),
    BpmUserName: textOf(info, "BpmUserName"),
  };
}

function required<T>(value: T | null, name: string): T {
  if (value === null) throw new Refused(500, `${name} is null`);
  return value;
}

function textOf(members: Members, name: string): string | null {
  const value = members[name] ?? null;
  if (value !== null && typeof value !== "string") throw new Refused(400, `${name} is no string`);
  if (value?.includes("\0")) throw new Refused(500, `${name} holds NUL, which the database refuses`);
  return value;
}

function guidOf(members: Members, name: string): string | null {
  const value = textOf(members, name);
  if (value !== null && !GUID.test(value)) throw new Refused(400, `${name} is no Guid`);
  return value?.toLowerCase() ?? null;
}

function flagOf(members: Members, name: string): boolean {
  const value = members[name] ?? false;
  if (typeof value !== "boolean") throw new Refused(400, `${name} is no boolean`);
  return value;
}

function enumOf(members: Members, name: string): number {
  const value = members[name] ?? 0;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > 3)
    throw new Refused(400, `${name} is no enum number`);
  return value;
}

function listOf(members: Members, name: string, type: "string" | "object"): unknown[] | null {
  const value = members[name] ?? null;
  if (value === null) return null;
  if (!Array.isArray(value) || value.some((item) => typeof item !== type))
    throw new Refused(400, `${name} is no list of ${type}s`);
  return value;
}
