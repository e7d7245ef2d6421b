/** Registers mailboxes. It has the body for each protocol, of which every field can be given otherwise. */
import type { Endpoint } from "./servers/endpoint.ts";
import type { Answer } from "./service.ts";

/** Of every user on a mail server of the tests. */
export const PASSWORD = "correct horse";

/** What a body says otherwise. The fields of `receive` and `deliver` take the place of the usual ones one by one. */
export type BodyChanges = { id?: string; address?: string; receive?: object; deliver?: object; send?: object };

/** The shortest body of a valid mailbox, on a server that nobody asks. `changes` replace its members as a whole. */
export function exampleBody(changes: Record<string, unknown> = {}) {
  return {
    address: "help@example.com",
    receive: {
      protocol: "imap",
      host: "imap.example.com",
      auth: { user: "help@example.com", password: `${PASSWORD} battery` },
    },
    deliver: { url: "https://crm.example.com/mail" },
    ...changes,
  };
}

/** A mailbox on an IMAP server without TLS. */
export function imapBody(server: { imapPort: number }, user: string, changes: BodyChanges = {}) {
  return body("imap", { host: "127.0.0.1", port: server.imapPort, tls: "none" }, user, changes);
}

/** A mailbox on a POP3 server with TLS, from which all messages are wanted. */
export function popBody(server: { tlsPort: number; ca: string }, user: string, changes: BodyChanges = {}) {
  const place = { host: "127.0.0.1", port: server.tlsPort, ca: server.ca };
  return body("pop3", { ...place, since: "2001-01-01", poll: { everySeconds: 10 } }, user, changes);
}

/** A mailbox on an Exchange server; `user` is its address. Without a URL autodiscover looks for the server. */
export function ewsBody(server: { url?: string; ca?: string | undefined }, user: string, changes: BodyChanges = {}) {
  return body("ews", { url: server.url, ca: server.ca }, user, changes);
}

/** A mailbox on the fake Graph server, by the application that is there from the beginning. */
export function graphBody(
  server: { root: string; tokenRoot: string; tenant: string; clientId: string; clientSecret: string },
  user: string,
  changes: BodyChanges = {},
) {
  const { root, tokenRoot, tenant, clientId, clientSecret } = server;
  const oauth2 = { tokenUrl: `${tokenRoot}/${tenant}/oauth2/v2.0/token`, clientId, clientSecret };
  const receive = { graphUrl: root, auth: { oauth2 }, ...changes.receive };
  return body("graph", {}, user, { ...changes, receive });
}

/** Delivers to an endpoint of the tests. */
export const toEndpoint = ({ url, secret }: Pick<Endpoint, "url" | "secret">) => ({
  url,
  ...(secret !== "" && { secret }),
});

function body(protocol: string, place: object, user: string, { receive, deliver, ...others }: BodyChanges) {
  return {
    address: user.includes("@") ? user : `${user}@example.com`,
    ...others,
    receive: { protocol, ...place, auth: { user, password: PASSWORD }, ...receive },
    // Nothing answers there. A test whose mail shall arrive names its endpoint.
    deliver: { url: "http://127.0.0.1:9/", ...deliver },
  };
}

/** Registers a mailbox; resolves with its id. Throws with what was answered when it is refused. */
export async function register(
  service: { call(method: string, path: string, body?: unknown): Promise<Answer> },
  wanted: ReturnType<typeof body>,
): Promise<string> {
  const answer = await service.call("POST", "/api/v1/mailboxes", wanted);
  if (answer.status !== 201) throw new Error(`Not registered: ${JSON.stringify(answer.body)}`);
  return answer.body.id;
}
