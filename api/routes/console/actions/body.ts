/** /deliveries/{id}/body: the body of a stored message, for a frame. Only with CONSOLE_BODIES=on. */
import { Problem } from "../../../../shared/contract/problem.ts";
import { mimeParser } from "../../../../shared/mail/mime/parse.ts";
import { notFound } from "../../../http/problems.ts";
import type { Route } from "../../../http/route.ts";
import { messageBody } from "../../../pages/console/actions/body.ts";
import { hiddenProblem } from "../letters.ts";
import { type ConsoleDeps, page } from "../page.ts";

const PARSE_MS = 30_000;
/** Pictures of more bytes are left out. */
const MAX_ATTACHMENT_BYTES = 2_000_000;
/** Larger messages are for a mail program. */
const MAX_MESSAGE_BYTES = 20_000_000;

export function bodyRoutes(deps: ConsoleDeps): Route[] {
  const parser = mimeParser({ threads: 1 });
  return [
    page(deps, "/deliveries/{id}/body", async (call) => {
      if (call.deps.config.CONSOLE_BODIES !== "on") throw hiddenProblem("the bodies of messages");
      const { deliveries } = call.deps.store;
      const delivery = await deliveries.get(call.id);
      if (!delivery) throw notFound("delivery", call.id);
      const raw = delivery.spooled ? await deliveries.getRaw(call.id) : undefined;
      if (!raw) throw notFound("stored message of the delivery", call.id);
      if (raw.byteLength > MAX_MESSAGE_BYTES)
        throw new Problem("invalid", "The message is too large to be shown. Download it.", { retry: "never" });
      const limits = { maxAttachmentBytes: MAX_ATTACHMENT_BYTES };
      return messageBody(await parser.parse(raw, limits, call.signal(PARSE_MS)));
    }),
  ];
}
