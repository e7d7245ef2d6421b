/** Short connections to a mail server for an HTTP request. */
import { randomUUID } from "node:crypto";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import type { MailConnection, PreflightReport } from "../shared/mail/mail.ts";
import type { MailVisits } from "./deps.ts";

type MailVisitsDeps = {
  connect: (mailbox: Mailbox) => MailConnection;
  preflight: (mailbox: Mailbox, signal: AbortSignal) => Promise<PreflightReport>;
};

/** Each call opens its own connection and closes it, whatever happens. */
export function mailVisits({ connect, preflight }: MailVisitsDeps): MailVisits {
  async function* withConnection<T>(
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
    // It uses an id that does not exist, so that it tries these credentials and not stored ones.
    preflight: (mailbox, signal) => preflight({ ...mailbox, id: randomUUID() }, signal),
    preflightStored: preflight,
    async listFolders(mailbox, signal) {
      const connection = connect(mailbox);
      try {
        return await connection.listFolders(signal);
      } finally {
        await connection.close();
      }
    },
    async fetchRaw(ref, mailbox, signal) {
      for await (const fetched of withConnection(mailbox, (connection) => connection.fetch([ref], signal))) {
        if ("problem" in fetched) throw fetched.problem;
        return fetched.raw;
      }
      throw new Problem("gone", `Message ${ref.uid} is no longer in ${ref.folder}`, { retry: "never" });
    },
    listSince: (mailbox, { date, cursors }, signal) =>
      withConnection(mailbox, (connection) => connection.listSince(date, cursors, signal)),
  };
}
