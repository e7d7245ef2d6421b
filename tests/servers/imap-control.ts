/**
 * A lean IMAP client for the tests' own use: puts messages into a server in large batches and looks at what is there.
 * One connection per user is kept for a while, so that thousands of calls are cheap.
 */
import { Connection, quoted } from "./imap-connection.ts";

/** What the client can do on behalf of a user; every call logs in again if the connection was lost. */
export type ImapControl = {
  append(user: string, folder: string, raws: (Buffer | string)[]): Promise<number[]>;
  createFolder(user: string, folder: string): Promise<void>;
  expunge(user: string, folder: string, uid: number): Promise<void>;
  flags(user: string, folder: string): Promise<Map<number, string[]>>;
  count(user: string, folder: string): Promise<number>;
  uidValidity(user: string, folder: string): Promise<number>;
  /** Deletes the folder, creates it again and puts its messages back; resolves with its new UIDVALIDITY. */
  recreate(user: string, folder: string): Promise<number>;
  /** Runs one command in no folder and resolves with its untagged lines. */
  command(user: string, text: string): Promise<string[]>;
  /** Ends all kept connections. */
  close(): Promise<void>;
};

/** How the server takes many messages: in one command (MULTIAPPEND, RFC 3502) or in one command each. */
export type ControlOptions = {
  port: () => number;
  password: (user: string) => string;
  multiAppend: boolean;
};

const KEPT_CONNECTIONS = 20;

/** A control client for the server on this port of 127.0.0.1. */
export function imapControl(options: ControlOptions): ImapControl {
  const { use, close } = connectionPool(options);
  return {
    append: (user, folder, raws) => use(user, (connection) => connection.append(folder, raws, options.multiAppend)),
    createFolder: (user, folder) => use(user, async (one) => void (await one.command(`CREATE ${quoted(folder)}`))),
    expunge: (user, folder, uid) =>
      use(user, async (connection) => {
        await connection.command(`SELECT ${quoted(folder)}`);
        await connection.command(`UID STORE ${uid} +FLAGS.SILENT (\\Deleted)`);
        await connection.command(`UID EXPUNGE ${uid}`);
        // CLOSE alone would remove whatever else is marked \\Deleted.
        await connection.command(`EXAMINE ${quoted(folder)}`);
        await connection.command("CLOSE");
      }),
    flags: (user, folder) =>
      use(user, async (connection) => {
        await connection.command(`EXAMINE ${quoted(folder)}`);
        const lines = await connection.command("UID FETCH 1:* (UID FLAGS)");
        await connection.command("CLOSE");
        return new Map(lines.flatMap(flagsIn));
      }),
    count: (user, folder) =>
      use(user, async (connection) => {
        const lines = await connection.command(`STATUS ${quoted(folder)} (MESSAGES)`);
        return Number(/MESSAGES (\d+)/.exec(lines.join(" "))?.[1]);
      }),
    uidValidity: (user, folder) => use(user, (connection) => uidValidity(connection, folder)),
    recreate: (user, folder) =>
      use(user, async (connection) => {
        await connection.command(`EXAMINE ${quoted(folder)}`);
        const { literals } = await connection.answerTo("UID FETCH 1:* (BODY.PEEK[])");
        await connection.command("CLOSE");
        await connection.command(`DELETE ${quoted(folder)}`);
        await connection.command(`CREATE ${quoted(folder)}`);
        await connection.append(folder, literals, options.multiAppend);
        return uidValidity(connection, folder);
      }),
    command: (user, text) => use(user, (connection) => connection.command(text)),
    close,
  };
}

type Pool = {
  use<Result>(user: string, work: (connection: Connection) => Promise<Result>): Promise<Result>;
  close(): Promise<void>;
};

// Keeps a connection for each of the users who were asked about last.
function connectionPool(options: ControlOptions): Pool {
  const kept = new Map<string, Promise<Connection>>();
  const opened = (user: string): Promise<Connection> => {
    const existing = kept.get(user);
    kept.delete(user);
    const connection = (existing ?? Promise.reject(new Error("none")))
      .then((one) => (one.usable ? one : Promise.reject(new Error("ended"))))
      .catch(() => Connection.open(options.port(), user, options.password(user)));
    kept.set(user, connection);
    connection.catch(() => kept.delete(user));
    const [oldest] = kept;
    if (oldest && kept.size > KEPT_CONNECTIONS) {
      kept.delete(oldest[0]);
      void oldest[1].then((one) => one.idle.then(() => one.end())).catch(() => undefined);
    }
    return connection;
  };
  return {
    use: async (user, work) => {
      const connection = await opened(user);
      return connection.exclusively(() => work(connection));
    },
    close: async () => {
      const open = [...kept.values()];
      kept.clear();
      await Promise.allSettled(open.map(async (connection) => (await connection).end()));
    },
  };
}

async function uidValidity(connection: Connection, folder: string): Promise<number> {
  const lines = await connection.command(`EXAMINE ${quoted(folder)}`);
  await connection.command("CLOSE");
  return Number(/\[UIDVALIDITY (\d+)\]/.exec(lines.join(" "))?.[1]);
}

function flagsIn(line: string): [number, string[]][] {
  const uid = /\bUID (\d+)/.exec(line)?.[1];
  const flags = /\bFLAGS \(([^)]*)\)/.exec(line)?.[1];
  if (uid === undefined || flags === undefined) return [];
  return [[Number(uid), flags.split(" ").filter((flag) => flag !== "" && flag !== "\\Recent")]];
}
