/** What a real server for sending gives to the suite of its promises (tests/promises/senders.ts). */

export type SubmissionServer = {
  /** `send` of a mailbox, without what concerns copies. */
  send: {
    host: string;
    port: number;
    tls: "none" | "starttls";
    ca?: string;
    auth: { user: string; password: string };
  };
  /** All messages that it has delivered. Each begins with the trace of the server, which names the envelope's recipient. */
  mails(): Promise<string[]>;
  /** Its own words for a wrong password; absent if it asks for none. */
  loginWords?: RegExp;
};
