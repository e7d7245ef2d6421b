/**
 * Regular expressions from clients, matched by RE2: the time grows linearly with the text and with the expression. The
 * runtime's own matcher backtracks and may never end.
 */
import { RE2JS, RE2JSSyntaxException } from "re2js";

/** True if a text contains a match, ignoring case. */
export type Matcher = (text: string) => boolean;

/** RE2 instructions. An expression of 1,024 characters can have 200,000; then a URL of 2,048 characters takes 44 s. */
const MAX_INSTRUCTIONS = 2000;

/**
 * The matcher of an expression in RE2's syntax (https://github.com/google/re2/wiki/Syntax), where `.` is any character.
 * Throws an Error that says what RE2 does not understand (such as look-around and back references), or that the
 * expression is too large.
 */
export function compilePattern(source: string): Matcher {
  const compiled = compile(source);
  if (compiled.programSize() > MAX_INSTRUCTIONS) throw new Error("it is too large");
  return (text) => compiled.test(text);
}

function compile(source: string): RE2JS {
  try {
    return RE2JS.compile(source, RE2JS.CASE_INSENSITIVE | RE2JS.DOTALL);
  } catch (error) {
    if (!(error instanceof RE2JSSyntaxException)) throw error;
    // The library puts its flags before the expression in its message.
    const part = error.getPattern()?.replace("(?s)(?i)", "");
    throw new Error(`${error.getDescription()}${part ? `: ${part}` : ""}`, { cause: error });
  }
}
