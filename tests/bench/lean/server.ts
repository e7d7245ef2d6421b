/** The lean IMAP server of the bench, as its parts use it. */
import { eventually } from "../../servers/waiting.ts";
import { startProgram } from "../program.ts";
import { command, file } from "../rivals.ts";

/** Numbered mails, so many for each user: the first user has the first ones. */
export type Numbered = { users: string[]; first: number; each: number; bytes: number };
/**
 * Mail for users of the server, base64, or numbered mails that the server makes. Then the content of all that came before is
 * dropped. Every order is answered with the counts after it.
 */
export type LeanOrder = { deliver?: { user: string; mail: string }[]; numbered?: Numbered };
/** Connections that are open, those of them that wait in IDLE, and how many there have ever been. */
export type LeanCounts = { open: number; idling: number; accepted: number };
export type LeanStart = { port: number; ca: string };

export type LeanServer = {
  port: number;
  /** The authority of its certificate, PEM. */
  ca: string;
  counts(): Promise<LeanCounts>;
  deliver(mails: { user: string; raw: Buffer }[]): Promise<void>;
  /** All mail before these must have been fetched, because its content is dropped. */
  deliverNumbered(mails: Numbered): Promise<void>;
  /** Resolves once so many connections wait in IDLE. */
  untilIdling(count: number, ms: number): Promise<void>;
  /** How a user's mailbox is received. */
  receive(user: string): object;
  end(): Promise<void>;
};

/** Starts the server on Bun, which holds a TLS connection in half of Node's memory. */
export async function startLeanServer(): Promise<LeanServer> {
  const program = startProgram([...command("bun"), file("./lean/program.ts")]);
  const { port, ca } = JSON.parse(await program.order()) as LeanStart;
  const order = async (what: LeanOrder) => JSON.parse(await program.order(what)) as LeanCounts;
  return {
    port,
    ca,
    counts: () => order({}),
    deliver: async (mails) =>
      void (await order({ deliver: mails.map(({ user, raw }) => ({ user, mail: raw.toString("base64") })) })),
    deliverNumbered: async (numbered) => void (await order({ numbered })),
    async untilIdling(count, ms) {
      await eventually(async () => (await order({})).idling >= count, `${count} connections to wait in IDLE`, ms, 100);
    },
    receive: (user) => ({
      protocol: "imap",
      host: "localhost",
      port,
      tls: "implicit",
      ca,
      auth: { user, password: "only for the bench" },
    }),
    end: program.end,
  };
}
