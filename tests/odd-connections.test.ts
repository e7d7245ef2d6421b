/** Hosts whose addresses are partly dead, and servers that are reached in an odd way: the mailbox connects, or says where it failed. */
import assert from "node:assert/strict";
import { createServer, type Socket } from "node:net";
import { test } from "node:test";
import { egress } from "../shared/egress.ts";
import { openMailbox } from "../shared/mail/open.ts";
import { all, depsFor, isProblem, maildropOn } from "./promises/mailbox-rig.ts";
import { freePorts, listenOn } from "./servers/ports.ts";
import { startProgram } from "./servers/program.ts";
import { startPop3Server } from "./servers/pop3.ts";
import { eventually } from "./servers/waiting.ts";

const { signal } = new AbortController();

const onlyFour = () => Promise.resolve([{ address: "127.0.0.1", family: 4 }]);

/** Takes the connections that its queue holds, accepts none, and answers no further one: a black hole, as a firewall makes one. */
const HOLES = `
import socket, sys, time
port, hosts, kept = int(sys.argv[1]), sys.argv[2:], []
for host in hosts:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    s.listen(0)
    kept.append(s)
    for _ in range(4):
        c = socket.socket()
        c.setblocking(False)
        try:
            c.connect((host, port))
        except BlockingIOError:
            pass
        kept.append(c)
print("ready", flush=True)
time.sleep(600)
`;

test("a host with six dead addresses before its living one is connected to in time, over one connection", async () => {
  const port = (await freePorts(1))[0] ?? 0;
  const dead = Array.from({ length: 6 }, (_, n) => `127.0.7.${n + 1}`);
  const holes = await startProgram("python3", ["-c", HOLES, String(port), ...dead]);
  const taken: Socket[] = [];
  const server = createServer((socket) => taken.push(socket));
  try {
    await eventually(() => holes.output().includes("ready"), "the dead addresses");
    await listenOn(server, port, "127.0.8.1");
    const addresses = [...dead, "127.0.8.1"].map((address) => ({ address, family: 4 }));
    const guard = egress("allow", { resolve: () => Promise.resolve(addresses) });
    const socket = await guard.connect({ host: "mail.example.com", port, timeoutMs: 15_000 }, signal);
    assert.equal(socket.remoteAddress, "127.0.8.1");
    socket.destroy();
    await eventually(() => taken.length > 0 && taken.every((one) => one.destroyed || one.readableEnded), "its end");
    assert.equal(taken.length, 1);
  } finally {
    for (const socket of taken) socket.destroy();
    server.close();
    await holes.kill();
  }
});

test("localhost is connected to where only IPv6 listens, whatever the machine's files say of it", async () => {
  const server = createServer((socket) => socket.end());
  const port = await listenOn(server, 0, "::1");
  try {
    const guard = egress("allow", { resolve: onlyFour });
    const socket = await guard.connect({ host: "localhost", port, timeoutMs: 10_000 }, signal);
    assert.equal(socket.remoteAddress, "::1");
    socket.destroy();
    await assert.rejects(
      egress("deny", { resolve: onlyFour }).resolve({ host: "localhost", port }, signal),
      isProblem("egress"),
    );
  } finally {
    server.close();
  }
});

test("what a POP3 server does wrong is said with its host and port", async () => {
  const server = await startPop3Server();
  server.addUser("bob", "a password that nobody gives");
  const place = { host: server.host, ca: server.ca, pop3Port: server.port, pop3sPort: server.tlsPort };
  const at = (port: number, tls: "implicit" | "none") => maildropOn(place, "bob", { port, tls });
  const faults = [
    { mailbox: at(server.port, "implicit"), port: server.port, code: "tls" },
    { mailbox: at(server.port, "none"), port: server.port, code: "auth" },
  ];
  try {
    for (const { mailbox, port, code } of faults) {
      const mail = openMailbox.pop3(depsFor(), mailbox);
      const named = (error: unknown) => isProblem(code)(error) && String(error).includes(`127.0.0.1 port ${port}`);
      await assert.rejects(all(mail.listSince(new Date(0), [], signal)), named);
      await mail.close();
    }
  } finally {
    await server.stop();
  }
});
