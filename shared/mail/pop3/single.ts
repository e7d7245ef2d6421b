/** Questions about one message, such as `UIDL 7` or `LIST 7`. */
import { Problem } from "../../contract/problem.ts";
import { MAX_LIST_BYTES, type Pop3Connection, readBlock, readReply, readWithTimeout } from "./response.ts";

/** What the server says of each of these messages, in their order; undefined if it says nothing of this one alone. */
export type AskSingle = (command: string, numbers: readonly number[]) => Promise<(string | undefined)[]>;

/**
 * Some servers ignore the number and answer with the list of all messages. So the first question of a session is asked alone, and such a
 * server is not asked again.
 */
export function singleAsker(connection: Pop3Connection, batchSize: number): AskSingle {
  const answered = new Map<string, "single" | "list">();
  const send = (command: string, numbers: readonly number[]) =>
    connection.stream.send(numbers.map((number) => `${command} ${number}\r\n`).join(""));
  /** Null: refused. Undefined: it does not name the message. */
  const readAnswer = async (command: string, number: number): Promise<string | null | undefined> => {
    const reply = await readReply(connection, command);
    if (reply instanceof Problem) return null;
    const [given, value] = reply.split(/\s+/);
    return Number(given) === number ? value : undefined;
  };

  async function askFirst(command: string, number: number): Promise<string | undefined> {
    send(command, [number]);
    const answer = await readAnswer(command, number);
    if (answer !== undefined) answered.set(command, "single");
    else if (await skipList(connection, command)) answered.set(command, "list");
    return answer ?? undefined;
  }

  return async (command, numbers) => {
    const answers: (string | undefined)[] = [];
    while (answers.length < numbers.length && !answered.has(command))
      answers.push(await askFirst(command, numbers[answers.length] ?? 0));
    const left = numbers.slice(answers.length);
    if (answered.get(command) === "list") return [...answers, ...left.map(() => undefined)];
    for (let start = 0; start < left.length; start += batchSize) {
      const some = left.slice(start, start + batchSize);
      send(command, some);
      for (const number of some) answers.push((await readAnswer(command, number)) ?? undefined);
    }
    return answers;
  };
}

/** Whether a list follows `+OK`. It is read to its end. NOOP shows that nothing follows. */
async function skipList(connection: Pop3Connection, command: string): Promise<boolean> {
  connection.stream.send("NOOP\r\n");
  const line = await readWithTimeout(connection, command, () => connection.stream.readLine());
  if (/^[+-]/.test(line)) return false;
  if (line !== ".") await readBlock(connection, command, MAX_LIST_BYTES);
  await readReply(connection, "NOOP");
  return true;
}
