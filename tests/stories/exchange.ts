/** What stories about Exchange mailboxes that send need: the service as a process, an Exchange server, and a mailbox on it. */
import { randomUUID } from "node:crypto";
import { type Exchange, type ExchangeOptions, startExchange } from "../servers/exchange/server.ts";
import { type Answer, type Service, startService } from "../service.ts";

export type ExchangeScene = {
  service: Service;
  exchange: Exchange;
  /** Registers a mailbox of a new user that sends by Exchange, and is not listened to. */
  sender(changes?: { send?: object; receive?: object; address?: string }): Promise<{ id: string; address: string }>;
  /** Asks to send; a small message to one person unless told otherwise. */
  send(mailbox: string, message?: object, options?: { key?: string; wait?: number }): Promise<Answer>;
  /** Resolves with the sending once it is in this state; rejects when it never will be. */
  until(sending: string, state: string, ms?: number): Promise<any>;
  end(): Promise<void>;
};

/** No attempt follows; what was sent may still bounce. */
const OVER = new Set(["sent", "failed", "unknown"]);

/** Sets the scene; time is compressed, and what the mail server may take is short. */
export async function exchangeScene(
  env: Record<string, string> = {},
  options: ExchangeOptions = {},
): Promise<ExchangeScene> {
  const exchange = await startExchange(options);
  const service = await startService({ COMMAND_TIMEOUT_SECONDS: "5", BACKOFF_SCALE: "0.01", ...env }).catch(
    async (error: unknown) => {
      await exchange.stop();
      throw error;
    },
  );
  return {
    service,
    exchange,
    async sender({ send = {}, receive = {}, address = `user-${randomUUID()}@example.com` } = {}) {
      await exchange.addUser(address, "correct horse");
      const answer = await service.call("POST", "/api/v1/mailboxes", {
        address,
        receive: {
          protocol: "ews",
          url: exchange.url,
          ca: exchange.ca,
          auth: { user: address, password: "correct horse" },
          ...receive,
        },
        send,
        deliver: { url: "http://127.0.0.1:9/" },
      });
      if (answer.status !== 201) throw new Error(`Not registered: ${JSON.stringify(answer.body)}`);
      const { id } = answer.body as { id: string };
      await service.call("POST", `/api/v1/mailboxes/${id}/pause`);
      return { id, address };
    },
    send: (mailbox, message = {}, { key, wait } = {}) =>
      service.call(
        "POST",
        `/api/v1/mailboxes/${mailbox}/messages${wait === undefined ? "" : `?wait=${wait}`}`,
        { to: ["bob@example.net"], subject: "Hello", text: "How are you?", ...message },
        key === undefined ? {} : { "idempotency-key": key },
      ),
    until: (sending, state, ms = 20_000) =>
      service.until(
        `${sending} to be ${state}`,
        async () => {
          const { body } = await service.call("GET", `/api/v1/messages/${sending}`);
          if (body.state === state) return body;
          if (OVER.has(body.state)) throw new Error(`It is ${body.state}, not ${state}: ${body.reason}`);
          return false;
        },
        ms,
      ),
    async end() {
      await service.end();
      await exchange.stop();
    },
  };
}
