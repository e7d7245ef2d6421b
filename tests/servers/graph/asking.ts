/** Plain requests to the fake Graph server, for the tests of the server itself. */
import { type GraphOptions, type GraphServer, startGraphServer } from "./server.ts";

/** A user of these tests. */
export const ANN = "ann@example.com";

/** A server with Ann's mailbox, which ends with the test. */
export async function withAnn(
  t: { after(work: () => Promise<void>): void },
  options?: GraphOptions,
): Promise<GraphServer> {
  const server = await startGraphServer(options);
  t.after(server.stop);
  await server.addUser(ANN);
  return server;
}

export type Asked = {
  method?: string;
  token?: string;
  body?: object | string;
  headers?: Record<string, string>;
};

/** Asks by a path below /v1.0, or by a whole address; the application asks unless told otherwise. */
export async function ask(server: GraphServer, path: string, more: Asked = {}): Promise<Response> {
  const { method = "GET", token = server.accessToken(), body, headers = {} } = more;
  const all: Record<string, string> = {
    authorization: `Bearer ${token}`,
    prefer: 'IdType="ImmutableId"',
    ...(body !== undefined && { "content-type": "application/json" }),
    ...headers,
  };
  const url = path.startsWith("http") ? path : `${server.root}/v1.0/${path}`;
  const text = typeof body === "object" ? JSON.stringify(body) : body;
  return fetch(url, { method, headers: all, ...(text !== undefined && { body: text }) });
}

export type Json = Record<string, unknown>;

/** The JSON of an answer that must have this status. */
export async function json(server: GraphServer, path: string, more: Asked = {}, status = 200): Promise<Json> {
  const answer = await ask(server, path, more);
  const text = await answer.text();
  if (answer.status !== status) throw new Error(`${path} was answered ${answer.status}, not ${status}: ${text}`);
  return JSON.parse(text) as Json;
}

/** The status and the code of an error. */
export async function refusal(server: GraphServer, path: string, more: Asked = {}): Promise<string> {
  const answer = await ask(server, path, more);
  const body = (await answer.json()) as { error?: { code?: string } };
  return `${answer.status} ${body.error?.code}`;
}

export type Item = { id: string; "@removed"?: object } & Json;

/** All pages of a delta round from this address: the items, how many pages there were, and the deltaLink. */
export async function round(
  server: GraphServer,
  first: string,
  more: Asked = {},
): Promise<{ items: Item[]; pages: number; link: string }> {
  const items: Item[] = [];
  let pages = 0;
  for (let path = first; ;) {
    const page = await json(server, path, more);
    pages++;
    items.push(...(page["value"] as Item[]));
    const [next, link] = [page["@odata.nextLink"], page["@odata.deltaLink"]];
    if (typeof link === "string") return { items, pages, link };
    path = String(next);
  }
}
