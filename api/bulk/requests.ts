/** The calls of the API that a bulk action consists of. */
import { isRecord } from "../http/field-errors.ts";
import type { BulkOrder } from "./book.ts";

/** The request for one mailbox or delivery. */
export function requestFor(order: BulkOrder, id: string, base: string, signal: AbortSignal): Request {
  const what = order.action === "replay" ? "deliveries" : "mailboxes";
  const url = `http://localhost${base}/api/v1/${what}/${encodeURIComponent(id)}/${order.action}`;
  if (order.action !== "resync") return new Request(url, { method: "POST", signal });
  const headers = { "content-type": "application/json" };
  return new Request(url, { method: "POST", signal, headers, body: JSON.stringify({ since: order.since }) });
}

/** What went wrong, by the answer of the API; null if nothing did. A test that failed says at which steps. */
export async function problemOf(answer: Response): Promise<string | null> {
  const body: unknown = answer.headers.get("content-type")?.includes("json") ? await answer.json() : undefined;
  if (!isRecord(body)) return answer.ok ? null : `The API answered ${answer.status}.`;
  if (!answer.ok) return String(body["detail"]);
  if (body["ok"] !== false || !Array.isArray(body["steps"])) return null;
  const failed = body["steps"].filter(isRecord).filter((step) => step["ok"] === false);
  return failed.map((step) => `${String(step["name"])}: ${String(step["cause"])}`).join("; ");
}
