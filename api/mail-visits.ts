/** Short connections to a mail server for an HTTP request. */
import { randomUUID } from "node:crypto";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import type { MailConnection, PreflightReport } from "../shared/mail/mail.ts";
import { graphHint, type ServeMailbox } from "../shared/served-mailboxes.ts";
import type { MailVisits } from "./deps.ts";

type MailVisitsDeps = {
  connect: (mailbox: Mailbox) => MailConnection;
  serve: ServeMailbox;
  preflight: (mailbox: Mailbox, signal: AbortSignal) => Promise<PreflightReport>;
};

/** Each call opens its own connection and closes it, whatever happens. */
export function mailVisits({ connect, serve, preflight }: MailVisitsDeps): MailVisits {
  const tryServed = async (mailbox: Mailbox, signal: AbortSignal) => {
    const served = await serve(mailbox);
    return withHint(await preflight(served, signal), graphHint(served));
  };

  async function* withConnection<T>(
    mailbox: Mailbox,
    work: (connection: MailConnection) => AsyncIterable<T>,
  ): AsyncGenerator<T, void, undefined> {
    const connection = connect(await serve(mailbox));
    try {
      yield* work(connection);
    } finally {
      await connection.close();
    }
  }

  return {
    // It uses an id that does not exist, so that it tries these credentials and not stored ones.
    preflight: (mailbox, signal) => tryServed({ ...mailbox, id: randomUUID() }, signal),
    preflightStored: tryServed,
    async listFolders(mailbox, signal) {
      const connection = connect(await serve(mailbox));
      try {
        return await connection.listFolders(signal);
      } finally {
        await connection.close();
      }
    },
    async findMessage(mailbox, messageId, signal) {
      const connection = connect(await serve(mailbox));
      try {
        if (!connection.findByMessageIds) return undefined;
        return (await Array.fromAsync(connection.findByMessageIds([messageId], signal))).flat();
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

/** The report with the hint in the fix of what failed. */
function withHint({ ok, steps }: PreflightReport, hint: string | undefined): PreflightReport {
  if (hint === undefined || ok) return { ok, steps };
  const hinted = steps.map((step) => (step.ok ? step : { ...step, fix: [step.fix, hint].filter(Boolean).join(" ") }));
  return { ok, steps: hinted };
}
