/**
 * The bench's mail server, in a process of its own so that neither rival shares a core's time with it: takes every message as fast as
 * it can and keeps nothing. Says its port as its first line; for each number read it says `done` once so many more were taken.
 */
import { createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";

const END = Buffer.from("\r\n.\r\n");
const OFFERS = "250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 50000000\r\n";
const REPLIES: Record<string, string> = {
  EHLO: OFFERS,
  AUTH: "235 2.7.0 welcome\r\n",
  DATA: "354 go on\r\n",
  QUIT: "221 bye\r\n",
};

let taken = 0;
let awaited = Infinity;

function tell(): void {
  if (taken < awaited) return;
  awaited = Infinity;
  process.stdout.write("done\n");
}

/** Reads what one client says, whole lines or whole messages, and gives the replies to it. */
function dialogue(): (chunk: Buffer) => string {
  let rest: Buffer = Buffer.alloc(0);
  let inMessage = false;
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let replies = "";
    for (;;) {
      const end = inMessage ? END : "\r\n";
      const at = rest.indexOf(end);
      if (at < 0) return replies;
      const verb = rest.toString("latin1", 0, 4).toUpperCase();
      rest = rest.subarray(at + end.length);
      replies += inMessage ? "250 2.0.0 taken\r\n" : (REPLIES[verb] ?? "250 2.0.0 ok\r\n");
      if (inMessage) taken++;
      inMessage = !inMessage && verb === "DATA";
    }
  };
}

const server = createServer((socket: Socket) => {
  const answer = dialogue();
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  socket.write("220 sink ESMTP\r\n");
  socket.on("data", (chunk: Buffer) => {
    const replies = answer(chunk);
    if (replies !== "") socket.write(replies);
    tell();
  });
});
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  process.stdout.write(`${typeof address === "object" ? address?.port : 0}\n`);
});

for await (const line of createInterface({ input: process.stdin })) {
  awaited = taken + Number(line);
  tell();
}
process.exit();
