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
/** Its own capabilities without IDLE, UIDPLUS and MOVE. */
const PLAIN = "imap_capability = IMAP4rev1 SASL-IR LITERAL+ NAMESPACE SPECIAL-USE CHILDREN STARTTLS AUTH=PLAIN";
if (dovecot === undefined) console.log("Skipped: no Dovecot on this machine");
else
  for (const [name, config] of [
    [`Dovecot ${dovecot}`, ""],
    [`Dovecot ${dovecot} without IDLE`, PLAIN],
  ] as const)
    imapMailboxPromises({
      name,
      start: () => privateDovecot(config),
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
async function privateDovecot(config: string): Promise<Dovecot> {
  const server = await startDovecot({ config });
  return Object.assign(server, { stop: server.remove });
}
