/** Questions about one message, such as `UIDL 7` or `LIST 7`. */
import { Problem } from "../../contract/problem.ts";
import { MAX_LIST_BYTES, type Pop3Connection, readBlock, readReply, readWithTimeout } from "./response.ts";

/** What the server says of each of these messages, in their order; undefined if it says nothing of this one alone. */
export type AskSingle = (command: string, numbers: readonly number[]) => Promise<(string | undefined)[]>;

/**
 * Some servers ignore the number and answer with the list of all messages. So NOOP after the first question of a session shows where the
 * answer ends, and such a server is not asked again.
 */
export function singleAsker(connection: Pop3Connection, batchSize: number): AskSingle {
  const lists = new Map<string, boolean>();
  const send = (command: string, numbers: readonly number[]) =>
    connection.stream.send(numbers.map((number) => `${command} ${number}\r\n`).join(""));
  const readAnswer = async (command: string, number: number): Promise<string | undefined> => {
    const reply = await readReply(connection, command);
    const [given, value] = reply instanceof Problem ? [] : reply.split(/\s+/);
    return Number(given) === number ? value : undefined;
  };

  async function askFirst(command: string, number: number): Promise<string | undefined> {
    send(command, [number]);
    const answer = await readAnswer(command, number);
    const isList = await skipList(connection, command);
    lists.set(command, isList);
    return isList ? undefined : answer;
  }

  return async (command, numbers) => {
    const [first, ...others] = numbers;
    if (first === undefined) return [];
    const isFirst = !lists.has(command);
    const answers = isFirst ? [await askFirst(command, first)] : [];
    const left = isFirst ? others : numbers;
    if (lists.get(command)) return [...answers, ...left.map(() => undefined)];
    for (let start = 0; start < left.length; start += batchSize) {
      const some = left.slice(start, start + batchSize);
      send(command, some);
      for (const number of some) answers.push(await readAnswer(command, number));
    }
    return answers;
  };
}

/** Whether a list follows the first line of an answer. It is read to its end. */
async function skipList(connection: Pop3Connection, command: string): Promise<boolean> {
  connection.stream.send("NOOP\r\n");
  const line = await readWithTimeout(connection, command, () => connection.stream.readLine());
  if (/^[+-]/.test(line)) return false;
  if (line !== ".") await readBlock(connection, command, MAX_LIST_BYTES);
  await readReply(connection, "NOOP");
  return true;
}
