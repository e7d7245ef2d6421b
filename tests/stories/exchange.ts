/** What stories about Exchange mailboxes that send need: the service as a process, an Exchange server, and a mailbox on it. */
import { randomUUID } from "node:crypto";
import { ewsBody, PASSWORD, register } from "../bodies.ts";
import { type Exchange, type ExchangeOptions, startExchange } from "../servers/exchange/server.ts";
import { type Service, startService } from "../service.ts";
import { sendingBy, type SendsMessages } from "./outgoing.ts";

export type ExchangeScene = SendsMessages & {
  service: Service;
  exchange: Exchange;
  /** Registers a mailbox of a new user that sends by Exchange, and is not listened to. */
  sender(changes?: { send?: object; receive?: object; address?: string }): Promise<{ id: string; address: string }>;
  end(): Promise<void>;
};

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
      await exchange.addUser(address, PASSWORD);
      const id = await register(service, ewsBody(exchange, address, { receive, send }));
      await service.call("POST", `/api/v1/mailboxes/${id}/pause`);
      return { id, address };
    },
    ...sendingBy(service),
    async end() {
      await service.end();
      await exchange.stop();
    },
  };
}
