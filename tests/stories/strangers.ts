/** What stories about strangers need: nodes, a mail server and an endpoint that work, and mailboxes at others that hang. */
import { imapBody, PASSWORD, register } from "../bodies.ts";
import { clusterEnv } from "../cluster-rig.ts";
import { type Crm, startCrm } from "../servers/crm.ts";
import { type Endpoint, startEndpoint } from "../servers/endpoint.ts";
import { type ImapServer, startImapServer } from "../servers/imap/server.ts";
import { message } from "../servers/mail.ts";
import { type Service, startService } from "../service.ts";

/** Nodes that work together; the first is asked. */
export type Nodes = { api: Service; end(): Promise<void> };
export type StartNodes = (env: Record<string, string>) => Promise<Nodes>;

export type World = {
  api: Service;
  mail: ImapServer;
  endpoint: Endpoint;
  /** Registers so many mailboxes of new users and resolves with the users once all of them are listened to. */
  mailboxes(name: string, count: number, at?: { mail?: ImapServer; url?: string; send?: object }): Promise<string[]>;
  end(): Promise<void>;
};

/** One node on its embedded store. */
export function embedded(command?: string[]): StartNodes {
  return async (env) => {
    const api = await startService(env, command);
    return { api, end: () => api.end() };
  };
}

/** One API node over Redis, and a worker where there is a broker. `command`: how each is run. */
export function overServers(
  redisUrl: string,
  rabbitUrl?: string,
  command?: (node: "api" | "worker") => string[],
): StartNodes {
  return async (more) => {
    const env = clusterEnv({ redisUrl, ...(rabbitUrl !== undefined && { rabbitUrl }), env: more });
    const api = await startService({ ...env, NODE_NAME: "api" }, command?.("api"));
    const isAlone = rabbitUrl === undefined;
    const startWorker = () => startService({ ...env, NODE_NAME: "worker" }, command?.("worker"), "worker");
    const worker = isAlone ? undefined : await startWorker();
    return { api, end: async () => void (await Promise.all([api.end(), worker?.end()])) };
  };
}

export async function worldOf(start: StartNodes, env: Record<string, string> = {}): Promise<World> {
  const [mail, endpoint] = await Promise.all([startImapServer(), startEndpoint({ secret: null })]);
  const nodes = await start(env);
  const { api } = nodes;
  let registered = 0;
  return {
    api,
    mail,
    endpoint,
    async mailboxes(name, count, at = {}) {
      const users = Array.from({ length: count }, (_, n) => `${name}-${n}`);
      const server = at.mail ?? mail;
      await Promise.all(
        users.map(async (user) => {
          await server.addUser(user, PASSWORD);
          const deliver = { url: at.url ?? endpoint.url };
          await register(api, imapBody(server, user, { id: user, deliver, ...(at.send && { send: at.send }) }));
        }),
      );
      registered += count;
      await api.until(`${registered} mailboxes to be listened to`, async () => {
        const { body } = await api.call("GET", "/api/v1/mailboxes?status=listening&limit=1");
        return body.total >= registered;
      });
      return users;
    },
    async end() {
      await nodes.end();
      await endpoint.stop();
      await mail.stop();
    },
  };
}

/** Puts so many messages into each mailbox; resolves with their subjects. */
export async function fill(mail: ImapServer, users: string[], each: number): Promise<string[]> {
  const subjects: string[] = [];
  for (const user of users) {
    const mine = Array.from({ length: each }, (_, n) => `${user} mail ${n}`);
    subjects.push(...mine);
    await mail.appendMany(
      user,
      "INBOX",
      mine.map((subject) => message({ subject, text: subject })),
    );
  }
  return subjects;
}

/** How a mailbox sends through an SMTP server of the tests. */
export const through = ({ port }: { port: number }) => ({ host: "127.0.0.1", port, tls: "none", saveSent: "never" });

/** A CRM whose listener is the first of the nodes, and so many mailboxes of it. */
export async function crmOf(
  { api, mail }: World,
  name: string,
  count: number,
): Promise<{ crm: Crm; add(): Promise<string[]> }> {
  const crm = await startCrm({ listener: () => `${api.url}/api/listeners` });
  return {
    crm,
    async add() {
      const users = Array.from({ length: count }, (_, n) => `${name}-${n}`);
      for (const user of users) await mail.addUser(user, PASSWORD);
      await Promise.all(users.map((user) => crm.addMailbox({ user, port: mail.imapPort })));
      return users;
    },
  };
}
