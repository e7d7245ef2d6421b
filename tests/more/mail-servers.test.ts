/** The promises of a mail connection on servers that the suite leaves out: `bun run more-servers`. Needs root on Debian. */
import { imapMailboxPromises } from "../promises/mailboxes-imap.ts";
import { depsFor } from "../promises/mailbox-rig.ts";
import { maildropPromises, overImap } from "../promises/maildrops.ts";
import { courierPath, startCourier } from "../servers/courier.ts";
import { startCyrus } from "../servers/cyrus.ts";
import { startDovecot } from "../servers/dovecot.ts";
import { startImap4d, startPop3d } from "../servers/mailutils.ts";

const common = { breaksInBursts: false, renumbers: false } as const;

imapMailboxPromises({ ...common, name: "Cyrus", start: startCyrus, oddFolder: "(odd) +" });
maildropPromises({
  name: "Cyrus",
  start: async () => {
    const server = await startCyrus();
    return overImap(server, server.stop);
  },
  stls: true,
  largest: 60,
  refusesNul: true,
});

imapMailboxPromises({
  name: "Courier",
  start: startCourier,
  listedAs: courierPath,
  oddFolder: 'Say "hi"',
  renumbers: true,
  breaksInBursts: false,
});
maildropPromises({
  name: "Courier",
  start: async () => {
    const server = await startCourier();
    return overImap(server, server.stop);
  },
  stls: true,
  largest: 60,
});

imapMailboxPromises({
  ...common,
  name: "Mailutils",
  start: startImap4d,
  // Its IDLE reports nothing: the probe finds the mail, and from then on the folder is polled.
  deps: () => depsFor({ probeMs: 3_000 }),
  marksAtEnd: true,
  oddFolder: "(odd) +",
});
maildropPromises({
  name: "Mailutils",
  start: startPop3d,
  stls: true,
  largest: 60,
  writes: /^X-UIDL: .*\r\n/m,
  locks: true,
});

/** Access lists as hosting companies use them. */
const ACL = `
mail_plugins = acl
protocol imap {
  mail_plugins = acl imap_acl
}
plugin {
  acl = vfile
}`;

for (const [name, config] of [["Dovecot with access lists", ACL]] as const)
  imapMailboxPromises({
    ...common,
    name,
    start: async () => {
      const server = await startDovecot({ config });
      return Object.assign(server, { stop: server.remove });
    },
    oddFolder: 'Say "hi"',
  });
