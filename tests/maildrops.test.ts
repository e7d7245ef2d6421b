/** The promises of POP3, kept against every POP3 server this machine has. */
import { maildropPromises, type MaildropServer, overImap } from "./promises/maildrops.ts";
import { dovecotVersion, startDovecot } from "./servers/dovecot.ts";
import { startGreenMail } from "./servers/greenmail.ts";
import { startPop3Server } from "./servers/pop3.ts";

maildropPromises({ name: "the scripted server", start: scripted, stls: true, largest: 60 });

const dovecot = await dovecotVersion();
if (dovecot === undefined) console.log("Skipped: no Dovecot on this machine");
else
  maildropPromises({
    name: `Dovecot ${dovecot}`,
    start: async () => {
      const server = await startDovecot();
      return overImap(server, server.remove);
    },
    stls: true,
    largest: 60,
  });

const jar = process.env["GREENMAIL_JAR"];
if (jar === undefined) console.log("Skipped: no GreenMail, GREENMAIL_JAR is not set");
else
  maildropPromises({
    name: "GreenMail",
    start: async () => {
      const server = await startGreenMail({ jar });
      return overImap(server, server.remove);
    },
    stls: false,
    largest: 10,
  });

async function scripted(): Promise<MaildropServer> {
  const server = await startPop3Server();
  return {
    host: server.host,
    ca: server.ca,
    pop3Port: server.port,
    pop3sPort: server.tlsPort,
    addUser: async (user, password) => server.addUser(user, password),
    append: async (user, raw) => server.add(user, raw),
    appendMany: async (user, raws) => raws.forEach((raw) => server.add(user, raw)),
    count: async (user) => server.messages(user).length,
    stop: server.stop,
  };
}
