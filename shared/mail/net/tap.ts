/** What is said on a connection, for a record that a person has switched on. Nothing is done with it while none is. */

/** `C`: the service said it. `S`: the server did. */
export type Speaker = "C" | "S";

/** One line of a protocol, as it is on the wire but for literals and contents of messages: those come as their size. */
export interface Tap {
  /** False while nobody records this mailbox. Then nothing needs to be prepared. */
  isOn(): boolean;
  line(from: Speaker, text: string): void;
}

/**
 * Called for each new connection of a mailbox. `secrets` are hidden in every form; those that are added to it later too.
 */
export type OpenTap = (mailbox: { id: string }, protocol: string, secrets: readonly string[]) => Tap;

/** Hides what is said of a login: arguments of the commands that log in, and everything until the server decides. */
export function hideLogins(tap: Tap, commands: RegExp): Tap {
  let isLoggingIn = false;
  return {
    isOn: tap.isOn,
    line(from, text) {
      const isCommand = from === "C" && commands.test(text);
      if (from === "C" && (isCommand || isLoggingIn)) {
        isLoggingIn = true;
        return tap.line(from, isCommand ? `${commands.exec(text)?.[0] ?? ""} [credentials]` : "[credentials]");
      }
      const isChallenge = isLoggingIn && /^(334|\+)( |$)/.test(text);
      if (from === "S" && !isChallenge && !text.startsWith("* ")) isLoggingIn = false;
      return tap.line(from, isChallenge ? text.replace(/ .*/s, " [challenge]") : text);
    },
  };
}
