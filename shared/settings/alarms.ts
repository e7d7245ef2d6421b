/** The settings of alarms, a part of settings.ts. */
import * as v from "valibot";
import { optionalSecret, webhookSecret, wordList } from "../setting-schemas.ts";

const optionalUrl = v.pipe(
  v.string(),
  v.check(
    (text) => text === "" || (/^https?:\/\//i.test(text) && URL.canParse(text)),
    "must be a URL of http or https",
  ),
  v.transform(optionalSecret),
);

export const ALARM_SETTINGS = {
  ALARM_URL: {
    secret: true,
    schema: optionalUrl,
    default: "",
    about:
      "URL that gets a signed webhook when a cause of trouble begins and when it ends, one for each server. The rules for endpoints hold for it too. Needs ALARM_SECRET.",
  },
  ALARM_SECRET: {
    secret: true,
    schema: webhookSecret,
    default: "",
    about: "Secret that signs these webhooks: `whsec_` and 24 to 64 bytes in base64.",
  },
  ALARM_MAILBOX: {
    schema: v.string(),
    default: "",
    about: "Id of a mailbox that sends the same as mail. Needs ALARM_TO.",
  },
  ALARM_TO: { schema: wordList, default: "", about: "Addresses that get these mails, separated by commas." },
} as const;
