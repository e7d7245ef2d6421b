/** Short visits to a mail server on behalf of an HTTP request. */
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import type { MailConnection, PreflightReport } from "../shared/mail/mail.ts";
import type { MailVisits } from "./deps.ts";

type Deps = {
  connect: (mailbox: Mailbox) => MailConnection;
  preflight: (mailbox: Mailbox, signal: AbortSignal) => Promise<PreflightReport>;
};

/** Each visit opens a connection of its own and closes it, whatever happens. */
export function mailVisits({ connect, preflight }: Deps): MailVisits {
  async function* visit<T>(
    mailbox: Mailbox,
    work: (connection: MailConnection) => AsyncIterable<T>,
  ): AsyncGenerator<T, void, undefined> {
    const connection = connect(mailbox);
    try {
      yield* work(connection);
    } finally {
      await connection.close();
    }
  }

  return {
    preflight,
    async folders(mailbox, signal) {
      const connection = connect(mailbox);
      try {
        return await connection.folders(signal);
      } finally {
        await connection.close();
      }
    },
    async raw(ref, mailbox, signal) {
      for await (const got of visit(mailbox, (connection) => connection.fetch([ref], signal))) {
        if ("problem" in got) throw got.problem;
        return got.raw;
      }
      throw new Problem("gone", `Message ${ref.uid} is no longer in ${ref.folder}`, { retry: "never" });
    },
    since: (mailbox, { date, cursors }, signal) =>
      visit(mailbox, (connection) => connection.since(date, cursors, signal)),
  };
}
