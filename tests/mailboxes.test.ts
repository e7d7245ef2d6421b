/** The promises of a mail connection, kept against every IMAP server this machine has. */
import { mailboxPromises } from "./promises/mailboxes.ts";
import { type Dovecot, dovecotVersion, startDovecot } from "./servers/dovecot.ts";
import { startImapServer } from "./servers/imap/server.ts";

mailboxPromises({ name: "the in-process server", start: () => startImapServer(), renumbers: true, saysWhy: true });

const dovecot = await dovecotVersion();
if (dovecot === undefined) console.log("Skipped: no Dovecot on this machine");
else mailboxPromises({ name: `Dovecot ${dovecot}`, start: privateDovecot, renumbers: true, saysWhy: true });

/** Leaves nothing behind when it is stopped. */
async function privateDovecot(): Promise<Dovecot> {
  const server = await startDovecot();
  return Object.assign(server, { stop: server.remove });
}
