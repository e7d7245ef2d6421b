/** What the stories of a CRM need: the service as a process, a mail server, and a CRM that calls and is called. */
import { type Crm, type CrmOptions, startCrm } from "../servers/crm.ts";
import { type ImapServer, startImapServer } from "../servers/imap/server.ts";
import { type Service, startService } from "../service.ts";

export type CrmScene = { service: Service; mail: ImapServer; crm: Crm; end(): Promise<void> };

/** Sets the scene; the mail server has no TLS, and time is compressed as in all stories. */
export async function crmScene(env: Record<string, string> = {}, options: Partial<CrmOptions> = {}): Promise<CrmScene> {
  const mail = await startImapServer({ tls: null });
  const service = await startService(env);
  const crm = await startCrm({ listener: () => `${service.url}/api/listeners`, ...options });
  return {
    service,
    mail,
    crm,
    async end() {
      await service.end();
      await crm.stop();
      await mail.stop();
    },
  };
}
