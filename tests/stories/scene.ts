/** What every story needs: the service as a process, a mail server, an endpoint, and a mailbox between them. */
import { randomUUID } from "node:crypto";
import { type Endpoint, type EndpointRequest, startEndpoint } from "../servers/endpoint.ts";
import { type ImapServer, type ImapServerOptions, startImapServer } from "../servers/imap/server.ts";
import type { MailServer } from "../servers/mail-server.ts";
import { type Service, startService } from "../service.ts";

export type Scene<M extends MailServer = ImapServer> = {
  service: Service;
  mail: M;
  endpoint: Endpoint;
  /** Registers a mailbox of a new user and resolves once it is listened to. */
  mailbox(changes?: Partial<MailboxChanges>): Promise<{ id: string; user: string }>;
  end(): Promise<void>;
};
export type MailboxChanges = {
  user: string;
  password: string;
  receive: object;
  deliver: object;
  wait: boolean;
  known: boolean;
};

/** Sets the scene with the in-process mail server, which can be broken on command. */
export async function scene(env: Record<string, string> = {}, options: ImapServerOptions = {}): Promise<Scene> {
  return sceneWith(await startImapServer(options), env);
}

export async function sceneWith<M extends MailServer>(mail: M, env: Record<string, string> = {}): Promise<Scene<M>> {
  const endpoint = await startEndpoint();
  const service = await startService(env).catch(async (error: unknown) => {
    await endpoint.stop();
    await mail.stop();
    throw error;
  });
  return {
    service,
    mail,
    endpoint,
    async mailbox({
      user = `user-${randomUUID()}`,
      password = "correct horse",
      receive,
      deliver,
      wait = true,
      known = false,
    } = {}) {
      if (!known) await mail.addUser(user, "correct horse");
      const answer = await service.call("POST", "/api/v1/mailboxes", {
        address: `${user}@example.com`,
        receive: {
          protocol: "imap",
          host: "127.0.0.1",
          port: mail.imapPort,
          tls: "none",
          auth: { user, password },
          ...receive,
        },
        deliver: { url: endpoint.url, secret: endpoint.secret, ...deliver },
      });
      if (answer.status !== 201) throw new Error(`Not registered: ${JSON.stringify(answer.body)}`);
      const { id } = answer.body as { id: string };
      if (wait) await status(service, id, "listening");
      return { id, user };
    },
    async end() {
      await service.end();
      await endpoint.stop();
      await mail.stop();
    },
  };
}

/** Waits until the mailbox has the status; resolves with its state. */
export function status(service: Service, id: string, wanted: string, ms = 60_000): Promise<any> {
  return service.until(
    `mailbox ${id} to be ${wanted}`,
    async () => {
      const { body } = await service.call("GET", `/api/v1/mailboxes/${id}`);
      return body.state?.status === wanted && body.state;
    },
    ms,
  );
}

/** The subjects that were accepted, sorted; each as often as it was accepted under a new delivery id. */
export function subjects(endpoint: Endpoint): string[] {
  const first = new Map(endpoint.received.map((request) => [request.id, request]));
  return [...first.values()].map(subjectOf).toSorted();
}

export const subjectOf = (request: EndpointRequest) =>
  String((request.json as { data: { subject: string } }).data.subject);
