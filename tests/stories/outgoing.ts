/** What every story about sending needs: a mailbox of the running service whose mail goes out through a server that follows a script. */
import type { Answer, Service } from "../service.ts";
import { type SmtpScript, type SmtpScriptOptions, startSmtpScript } from "../servers/smtp-script.ts";
import { loginAgain, type Scene, scene, status } from "./scene.ts";

/** How a story sends by the service's API. */
export type SendsMessages = {
  /** Asks to send: a small message to one person, with these changes. */
  send(mailbox: string, message?: object, options?: { key?: string; wait?: number }): Promise<Answer>;
  /** Resolves with the sending once it is in this state. Rejects once it has ended in another one. */
  until(sending: string, state: string, ms?: number): Promise<any>;
};

/** No attempt follows; what was sent may still bounce. */
const OVER = new Set(["sent", "failed", "unknown"]);

export const sendingBy = (service: Service): SendsMessages => ({
  send: (mailbox, message = {}, { key, wait } = {}) =>
    service.call(
      "POST",
      `/api/v1/mailboxes/${mailbox}/messages${wait === undefined ? "" : `?wait=${wait}`}`,
      { to: ["bob@example.net"], subject: "Hello", text: "How are you?", ...message },
      key === undefined ? {} : { "idempotency-key": key },
    ),
  until: (sending, state, ms = 60_000) =>
    service.until(
      `${sending} to be ${state}`,
      async () => {
        const { body } = await service.call("GET", `/api/v1/messages/${sending}`);
        if (body.state === state) return body;
        if (OVER.has(body.state) && OVER.has(state))
          throw new Error(`It is ${body.state}, not ${state}: ${body.reason}`);
        return false;
      },
      ms,
    ),
});

export type Outgoing = Scene &
  SendsMessages & {
    smtp: SmtpScript;
    /** Registers a mailbox that sends through the script; resolves before it is listened to unless asked to wait. */
    sender(send?: object, wish?: { listening?: boolean }): Promise<{ id: string; user: string; address: string }>;
  };

/** Sets the scene; time is compressed, and what the mail server may take is a second. */
export async function outgoing(env: Record<string, string> = {}, options: SmtpScriptOptions = {}): Promise<Outgoing> {
  const set = await scene({ COMMAND_TIMEOUT_SECONDS: "5", BACKOFF_SCALE: "0.01", ...env });
  const smtp = await startSmtpScript(options);
  return {
    ...set,
    smtp,
    async sender(send = {}, { listening = false } = {}) {
      const { id, user } = await set.mailbox({ wait: false });
      const place = { host: "127.0.0.1", port: smtp.port, tls: "none", saveSent: "never" };
      const patched = await set.service.call("PATCH", `/api/v1/mailboxes/${id}`, {
        receive: loginAgain(user),
        send: { ...place, ...send },
      });
      if (patched.status !== 200) throw new Error(JSON.stringify(patched.body));
      if (listening) await status(set.service, id, "listening");
      return { id, user, address: `${user}@example.com` };
    },
    ...sendingBy(set.service),
    async end() {
      await set.end();
      await smtp.stop();
    },
  };
}
