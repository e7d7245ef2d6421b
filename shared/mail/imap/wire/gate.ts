/**
 * The stream between a socket and the IMAP library. It hands on what `traffic.ts` allows, in small parts, and ends the
 * connection with the Problem of a limit. While the process has read enough for this server, the socket is paused.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { Problem } from "../../../contract/problem.ts";
import { type Intake, type IntakeShare, SLICE_ANSWERS } from "../../net/intake.ts";
import { createTraffic, type Traffic } from "./traffic.ts";

/** What the library needs of a socket, and what STARTTLS needs. */
export type Gate = Duplex & {
  readonly traffic: Traffic;
  setTimeout(ms: number): unknown;
  setKeepAlive(enable?: boolean, initialDelay?: number): unknown;
  /** Changes while bytes arrive, and while they wait here for their turn. */
  activity(): number;
  /** Gives the socket away, so that TLS can start on it. Throws `starttls` if the server sent something before that. */
  detach(): Socket;
};

export function createGate(socket: Socket, intake: Intake): Gate {
  const traffic = createTraffic();
  const share = intake.join((problem) => duplex.destroy(problem));
  const duplex = new Duplex({
    read: () => pump.wake(),
    write(chunk: Buffer, _encoding, done) {
      traffic.sent(chunk);
      socket.write(chunk, done);
    },
    final: (done) => void socket.end(done),
    destroy(error, done) {
      share[Symbol.dispose]();
      pump.wake();
      socket.destroy();
      done(error);
    },
  });
  const pump = startPump(socket, duplex, { traffic, share });
  return Object.assign(duplex, {
    traffic,
    setTimeout: (ms: number) => socket.setTimeout(ms),
    setKeepAlive: (enable?: boolean, initialDelay?: number) => socket.setKeepAlive(enable, initialDelay),
    activity: () => pump.received + share.waitedMs,
    detach() {
      if (pump.unread > 0 || traffic.openBytes > 0 || duplex.readableLength > 0) throw toInjectedProblem();
      pump.stop();
      share[Symbol.dispose]();
      return socket;
    },
  });
}

/** Moves what the socket receives into the stream, part by part, until it is stopped or the stream is destroyed. */
function startPump(socket: Socket, stream: Duplex, { traffic, share }: { traffic: Traffic; share: IntakeShare }) {
  let [received, unread] = [0, 0];
  let wantsMore: (() => void) | undefined;
  let isStopped = false;

  async function handOn(chunk: Buffer): Promise<void> {
    for (let at = 0; at < chunk.length && !stream.destroyed;) {
      const { end, unasked } = traffic.read(chunk, at, SLICE_ANSWERS);
      await share.awaitTurn(unasked);
      await share.hold(traffic.openBytes);
      if (stream.destroyed) return;
      const wanted = new Promise<void>((resolve) => {
        wantsMore = resolve;
      });
      unread = chunk.length - end;
      if (!stream.push(chunk.subarray(at, end))) await wanted;
      at = end;
    }
  }
  const readOn = async (chunk: Buffer) => {
    await handOn(chunk);
    if (isStopped || stream.destroyed) return;
    if (socket.readableEnded) stream.push(null);
    else socket.resume();
  };

  const onData = (chunk: Buffer) => {
    received += chunk.length;
    unread = chunk.length;
    socket.pause();
    readOn(chunk).catch((error: Error) => stream.destroy(error));
  };
  const onEnd = () => {
    if (unread === 0) stream.push(null);
  };
  const onClose = () => {
    if (!socket.readableEnded) stream.destroy();
  };
  const onError = (error: Error) => void stream.destroy(error);
  const onTimeout = () => void stream.emit("timeout");
  const listeners = { data: onData, end: onEnd, close: onClose, error: onError, timeout: onTimeout };
  for (const [event, listener] of Object.entries(listeners)) socket.on(event, listener);
  // The server may have hung up before.
  if (socket.readableEnded) onEnd();
  else if (socket.destroyed) queueMicrotask(onClose);

  return {
    get received() {
      return received;
    },
    /** Bytes that came and were not handed on yet. */
    get unread() {
      return unread;
    },
    wake: () => wantsMore?.(),
    stop() {
      isStopped = true;
      for (const [event, listener] of Object.entries(listeners)) socket.off(event, listener);
    },
  };
}

function toInjectedProblem(): Problem {
  return new Problem("starttls", "Somebody injected text into the connection before TLS began", { retry: "never" });
}
