/** What every story needs: the service as a process, a mail server, an endpoint, and a mailbox between them. */
import { randomUUID } from "node:crypto";
import { imapBody, PASSWORD, register, toEndpoint } from "../bodies.ts";
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

/** A node with these settings and an endpoint, beside a mail server of any protocol. `end` stops all three. */
export async function nodeBeside<M extends { stop(): Promise<void> }>(mail: M, env: Record<string, string> = {}) {
  const endpoint = await startEndpoint();
  const stop = async () => {
    await endpoint.stop();
    await mail.stop();
  };
  const service = await startService(env).catch(async (error: unknown) => {
    await stop();
    throw error;
  });
  const end = async () => {
    await service.end();
    await stop();
  };
  return { service, mail, endpoint, end };
}

export async function sceneWith<M extends MailServer>(mail: M, env: Record<string, string> = {}): Promise<Scene<M>> {
  const node = await nodeBeside(mail, env);
  const { service, endpoint } = node;
  return {
    ...node,
    async mailbox({
      user = `user-${randomUUID()}`,
      password = PASSWORD,
      receive,
      deliver,
      wait = true,
      known = false,
    } = {}) {
      if (!known) await mail.addUser(user, PASSWORD);
      const body = imapBody(mail, user, {
        receive: { auth: { user, password }, ...receive },
        deliver: { ...toEndpoint(endpoint), ...deliver },
      });
      const id = await register(service, body);
      if (wait) await status(service, id, "listening");
      return { id, user };
    },
  };
}

/** The login of a mailbox, as a change of its servers must send it again. */
export function loginAgain(user: string) {
  return { auth: { user, password: PASSWORD } };
}

/** The next run of a polled mailbox comes now and not after its interval: what was paused is compared as soon as it goes on. */
export async function look(service: Service, id: string): Promise<void> {
  for (const action of ["pause", "resume"]) {
    const { status: code, body } = await service.call("POST", `/api/v1/mailboxes/${id}/${action}`);
    if (code !== 200) throw new Error(`${action} of ${id} was answered with ${code}: ${JSON.stringify(body)}`);
  }
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
