/** The promises of a mail connection, kept against every IMAP server this machine has. */
import { imapMailboxPromises } from "./promises/mailboxes-imap.ts";
import { type Dovecot, dovecotVersion, startDovecot } from "./servers/dovecot.ts";
import { type GreenMail, startGreenMail } from "./servers/greenmail.ts";
import { startImapServer } from "./servers/imap/server.ts";

imapMailboxPromises({
  name: "the in-process server",
  start: () => startImapServer(),
  renumbers: true,
  breaksInBursts: false,
  oddFolder: 'Say "hi"',
});

const dovecot = await dovecotVersion();
if (dovecot === undefined) console.log("Skipped: no Dovecot on this machine");
else
  imapMailboxPromises({
    name: `Dovecot ${dovecot}`,
    start: privateDovecot,
    renumbers: true,
    breaksInBursts: false,
    oddFolder: 'Say "hi"',
  });

const jar = process.env["GREENMAIL_JAR"];
if (jar === undefined) console.log("Skipped: no GreenMail, GREENMAIL_JAR is not set");
else
  imapMailboxPromises({
    name: "GreenMail",
    start: () => privateGreenMail(jar),
    renumbers: false,
    breaksInBursts: true,
    oddFolder: "(odd) %",
  });

async function privateGreenMail(path: string): Promise<GreenMail> {
  const server = await startGreenMail({ jar: path });
  return Object.assign(server, { stop: server.remove });
}

/** Leaves nothing behind when it is stopped. */
async function privateDovecot(): Promise<Dovecot> {
  const server = await startDovecot();
  return Object.assign(server, { stop: server.remove });
}
