/**
 * An example of a request to each route. A test makes all of them, against a service that has what they name, and gets the
 * status that stands here. Ids that the service makes, such as a delivery id, are those of that service.
 */

/** One request. `id` is the parameter of the path. `status` is what it is answered with. */
export type Example = {
  id?: string;
  query?: Record<string, string | number>;
  headers?: Record<string, string>;
  body?: unknown;
  status: number;
};

const HELP = { id: "help-desk", status: 200 };
const CONTOSO = { provider: "microsoft", tenant: "contoso.com", clientId: "0b1c6c0e-client", clientSecret: "..." };
const DELIVERY = "msg_0c1a5e";
const SENDING = "snd_7f31b2";
const TOKEN = "4f1d0c9a2b7e6583";
const BULK = "blk_52d09e";

const ENDPOINT = { url: "https://crm.example.com/mail" };

const MAILBOX = {
  address: "sales@example.com",
  receive: { protocol: "imap", host: "imap.example.com", auth: { user: "sales@example.com", password: "..." } },
  deliver: ENDPOINT,
};
const NEW_MAILBOX = {
  id: "support",
  address: "support@example.com",
  receive: { protocol: "imap", host: "imap.example.com", auth: { user: "support@example.com", password: "..." } },
  deliver: ENDPOINT,
};

/** By method and path. What one example makes, a later one may use; what removes something comes last. */
export const EXAMPLES: Readonly<Record<string, Example>> = {
  "GET /api/v1/mailboxes": { query: { status: "listening", limit: 50 }, status: 200 },
  "POST /api/v1/mailboxes": { body: NEW_MAILBOX, status: 201 },
  "POST /api/v1/mailboxes:import": {
    headers: { "content-type": "application/x-ndjson" },
    body: { ...NEW_MAILBOX, id: "imported" },
    status: 200,
  },
  "POST /api/v1/mailboxes/discover": { body: { address: "somebody@gmail.com" }, status: 200 },
  "POST /api/v1/mailboxes/validate": { query: { folders: "true" }, body: MAILBOX, status: 200 },
  "GET /api/v1/mailboxes/{id}": HELP,
  "PUT /api/v1/mailboxes/{id}": { id: "sales", body: MAILBOX, status: 201 },
  "PATCH /api/v1/mailboxes/{id}": {
    id: "sales",
    body: { name: "Sales", receive: { since: "2026-11-01" } },
    status: 200,
  },
  "POST /api/v1/mailboxes/{id}/test": HELP,
  "GET /api/v1/mailboxes/{id}/folders": HELP,
  "GET /api/v1/mailboxes/{id}/events": { ...HELP, query: { limit: 10, kind: "mail.delivered,mail.parked" } },
  "POST /api/v1/mailboxes/{id}/record": HELP,
  "GET /api/v1/mailboxes/{id}/record": HELP,
  "POST /api/v1/mailboxes/{id}/record/stop": { ...HELP, status: 204 },
  "POST /api/v1/mailboxes/{id}/resync": { ...HELP, body: { since: "2026-11-01" }, status: 202 },
  // It is for a mailbox that asks. This one does not.
  "POST /api/v1/mailboxes/{id}/confirm": { id: "help-desk", status: 409 },
  "POST /api/v1/mailboxes/{id}/messages": {
    id: "help-desk",
    headers: { "idempotency-key": "order-4711" },
    body: { to: ["bob@example.net"], subject: "Hello", text: "Your order is on its way." },
    status: 202,
  },
  "GET /api/v1/mailboxes/{id}/messages": { ...HELP, query: { state: "queued" } },
  "POST /api/v1/mailboxes/{id}/pause": { id: "sales", status: 200 },
  "POST /api/v1/mailboxes/{id}/resume": { id: "sales", status: 200 },
  "GET /api/v1/messages/{deliveryId}": { id: SENDING, status: 200 },
  "GET /api/v1/messages/{deliveryId}/raw": { id: DELIVERY, status: 200 },
  "GET /api/v1/deliveries": { query: { state: "parked", mailbox: "help-desk" }, status: 200 },
  "GET /api/v1/deliveries/{id}": { id: DELIVERY, status: 200 },
  "GET /api/v1/parked": { query: { limit: 20 }, status: 200 },
  "GET /api/v1/tasks/parked": { status: 200 },
  "POST /api/v1/deliveries/{id}/replay": { id: DELIVERY, status: 202 },
  "POST /api/v1/deliveries/replay": { body: { since: "2026-11-01", mailbox: "help-desk" }, status: 202 },
  "POST /api/v1/parked/replay": { body: { mailbox: "help-desk" }, status: 202 },
  "POST /api/v1/tasks/parked/replay": { body: {}, status: 202 },
  "POST /api/v1/tasks/parked/drop": { body: { ids: ["17"] }, status: 200 },
  "POST /api/v1/bulk/count": { body: { action: "pause", filter: { protocol: "pop3" } }, status: 200 },
  "POST /api/v1/bulk": { body: { action: "pause", filter: { protocol: "pop3" } }, status: 202 },
  "GET /api/v1/bulk": { status: 200 },
  "GET /api/v1/bulk/{id}": { id: BULK, status: 200 },
  "POST /api/v1/bulk/{id}/stop": { id: BULK, status: 202 },
  "GET /api/v1/endpoints": { status: 200 },
  "POST /api/v1/endpoints/pause": { body: ENDPOINT, status: 200 },
  "POST /api/v1/endpoints/resume": { body: ENDPOINT, status: 200 },
  "POST /api/v1/endpoints/test": { body: { ...ENDPOINT, mailbox: "sales" }, status: 200 },
  "POST /api/v1/endpoints/rotate-secret": { body: { ...ENDPOINT, overlapHours: 48 }, status: 200 },
  "GET /api/v1/applications": { status: 200 },
  "POST /api/v1/applications": { body: { id: "contoso", ...CONTOSO }, status: 201 },
  "PUT /api/v1/applications/{id}": { id: "contoso", body: CONTOSO, status: 200 },
  "GET /api/v1/applications/{id}": { id: "contoso", status: 200 },
  "POST /api/v1/consents": {
    body: {
      application: "contoso",
      address: "anna@contoso.com",
      mailbox: { id: "anna", deliver: ENDPOINT },
    },
    status: 201,
  },
  "POST /api/v1/mailboxes/{id}/move-to-graph": {
    id: "exchange",
    body: { application: "contoso", dryRun: true },
    status: 200,
  },
  "GET /api/v1/tokens": { status: 200 },
  "POST /api/v1/tokens": { body: { name: "reports", scopes: ["read"] }, status: 201 },
  "GET /api/v1/tokens/{id}": { id: TOKEN, status: 200 },
  "GET /api/v1/audit": { query: { mailbox: "help-desk", limit: 20 }, status: 200 },
  "GET /api/v1/events": { query: { mailbox: "help-desk" }, status: 200 },
  "GET /api/v1/nodes": { status: 200 },
  "GET /api/v1/sizing": { query: { mailboxes: 2000, flow: 10 }, status: 200 },
  "GET /api/v1/diagnostics": { status: 200 },
  "GET /api/v1/diagnostics/checks": { status: 200 },
  "POST /api/v1/diagnostics/checks": { body: { checks: ["settings"] }, status: 200 },
  "GET /api/v1/diagnostics/identity": { query: { challenge: "0123456789abcdef" }, status: 200 },
  "GET /api/v1/alarms": { status: 200 },
  "POST /api/v1/alarms/test": { status: 200 },
  "GET /healthz": { status: 200 },
  "GET /readyz": { status: 200 },
  "GET /metrics": { status: 200 },
  "GET /api/listeners/status": { status: 200 },
  "GET /docs": { status: 200 },
  "GET /openapi.json": { status: 200 },
  "DELETE /api/v1/mailboxes/{id}": { id: "support", status: 204 },
  "DELETE /api/v1/tokens/{id}": { id: TOKEN, status: 204 },
  "DELETE /api/v1/applications/{id}": { id: "contoso", status: 204 },
};

/** The example of a route. */
export function exampleOf({ method, path }: { method: string; path: string }): Example | undefined {
  return EXAMPLES[`${method.toUpperCase()} ${path}`];
}

/** The path of the example, with its id and its query. */
export function pathOfExample(path: string, { id = "", query = {} }: Example): string {
  const members = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) members.set(name, String(value));
  const filled = path.replace(/\{\w+\}/, encodeURIComponent(id));
  return members.size === 0 ? filled : `${filled}?${members}`;
}

const JSON_TYPE = "application/json";

/** The example as a command of curl, for a shell that has the service in URL and a token in TOKEN. */
export function curlOfExample(method: string, path: string, example: Example, isPublic: boolean): string {
  const headers: Record<string, string> = {
    ...(example.body !== undefined && { "content-type": JSON_TYPE }),
    ...example.headers,
  };
  // A body of lines has one object in each.
  const indent = headers["content-type"] === JSON_TYPE ? 2 : 0;
  const words = [
    `curl${method === "get" ? "" : ` -X ${method.toUpperCase()}`} "$URL${pathOfExample(path, example)}"`,
    ...(isPublic ? [] : ['-H "authorization: Bearer $TOKEN"']),
    ...Object.entries(headers).map(([name, value]) => `-H '${name}: ${value}'`),
    ...(example.body === undefined ? [] : [`-d '${JSON.stringify(example.body, null, indent)}'`]),
  ];
  return words.join(" \\\n  ");
}
