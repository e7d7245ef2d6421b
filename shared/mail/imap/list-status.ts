/** The state of many folders in one command: LIST with RETURN (STATUS ...), RFC 5819. */
import type { Session } from "./session.ts";

export type FolderStatus = {
  uidNext?: number | undefined;
  uidValidity?: bigint | undefined;
  messages?: number | undefined;
};

type Token = { value?: unknown } | null;
type Untagged = { attributes?: (Token | Token[])[] };
type Execute = (
  command: string,
  attributes: unknown[],
  options: { untagged: Record<string, (untagged: Untagged) => Promise<void>> },
) => Promise<{ next(): void }>;

const ITEMS = ["MESSAGES", "UIDNEXT", "UIDVALIDITY"].map((value) => ({ type: "ATOM", value }));

/**
 * STATUS of all folders, by the names with which the server lists them. Undefined if the server does not support it.
 * The library's own way would fall back to one STATUS for each folder in one go, and block the connection for minutes.
 */
export async function listStatuses(
  session: Session,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, FolderStatus> | undefined> {
  const { client } = session;
  const execute: unknown = Reflect.get(client, "exec");
  if (!client.capabilities.has("LIST-STATUS") || typeof execute !== "function") return undefined;
  const statuses = new Map<string, FolderStatus>();
  const onStatus = ({ attributes = [] }: Untagged) => {
    const [name, values] = attributes;
    if (!name || Array.isArray(name) || !Array.isArray(values)) return Promise.resolve();
    statuses.set(String(name.value), parseStatus(values));
    return Promise.resolve();
  };
  const list = async () => {
    const attributes = ["", "*", { type: "ATOM", value: "RETURN" }, [{ type: "ATOM", value: "STATUS" }, ITEMS]];
    const done = await (execute as Execute).call(client, "LIST", attributes, {
      untagged: { STATUS: onStatus, LIST: () => Promise.resolve() },
    });
    done.next();
  };
  await session.runExclusive("LIST with STATUS", list, signal);
  return statuses.size > 0 ? statuses : undefined;
}

function parseStatus(values: Token[]): FolderStatus {
  const numbers = new Map<string, string>();
  for (let at = 0; at + 1 < values.length; at += 2)
    numbers.set(String(values[at]?.value).toUpperCase(), String(values[at + 1]?.value));
  const number = (name: string) => {
    const text = numbers.get(name) ?? "";
    return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  };
  const [uidNext, messages] = [number("UIDNEXT"), number("MESSAGES")];
  const uidValidity = numbers.get("UIDVALIDITY") ?? "";
  return { uidNext, messages, uidValidity: /^\d{1,20}$/.test(uidValidity) ? BigInt(uidValidity) : undefined };
}
