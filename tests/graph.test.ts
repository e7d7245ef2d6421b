/** The promises of a mail connection, kept against Graph. */
import { type Host, mailboxPromises } from "./promises/mailboxes.ts";
import { graphDeps, graphLogin, graphMailboxOn } from "./promises/graph-rig.ts";
import { type GraphServer, startGraphServer } from "./servers/graph/server.ts";

type Hosted = Host & { real: GraphServer };

/** A Graph server, as the suite asks for one. Everybody logs in by the application. */
async function hosted(): Promise<Hosted> {
  const real = await startGraphServer();
  return {
    real,
    addUser: (user) => real.addUser(user),
    append: (user, folder, raw) => real.append(user, folder, raw),
    // Graph says whole seconds, and messages of the same second have no order in a list.
    appendMany: (user, folder, raws) => {
      if (raws.length > 3) return real.appendMany(user, folder, raws);
      const at = Date.now();
      const append = (raw: Buffer, index: number) =>
        real.append(user, folder, raw, { receivedAt: new Date(at + 1000 * index) });
      return Promise.all(raws.map(append));
    },
    createFolder: async (user, folder) => void (await real.createFolder(user, folder)),
    expunge: async (user, folder, name) => real.remove(user, folder, String(name)),
    flags: async (user, folder) =>
      new Map(real.list(user, folder).map(({ id, isRead }) => [id, isRead ? ["\\Seen"] : []])),
    count: async (user, folder) => real.count(user, folder),
    stop: () => real.stop(),
  };
}

mailboxPromises<Hosted>({
  name: "Microsoft Graph",
  start: hosted,
  mailbox: ({ real }, user, { folders, since } = {}) =>
    graphMailboxOn(real, user, { ...(folders && { folders }), ...(since !== undefined && { since }) }),
  refused: {
    wish: ({ real }, user) => graphMailboxOn(real, user, { auth: graphLogin(real, "not it") }),
    code: "token",
  },
  deps: () => graphDeps(),
  path: ({ real }, user, folder) => (folder === "INBOX" ? folder : real.folderId(user, folder)),
  breaksInBursts: false,
  oddFolder: 'Say "hi" <now>',
});
