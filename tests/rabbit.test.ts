/** The queue on a real RabbitMQ, quorum and classic: held to the promises of every queue and to its own, faults included. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { placeAt, queuePromises } from "./promises/queues.ts";
import { preferencePromises } from "./promises/queues-preference.ts";
import { rabbitFaultPromises } from "./promises/rabbit-faults.ts";
import { namer, type RabbitRig } from "./promises/rabbit-rig.ts";
import { rabbitSetupPromises } from "./promises/rabbit-setup.ts";
import { rabbitTaskPromises } from "./promises/rabbit-tasks.ts";
import { makeCertificates } from "./servers/certificates.ts";
import { freePorts } from "./servers/ports.ts";
import { startRabbitMq } from "./servers/rabbitmq.ts";

const folder = mkdtempSync(join(tmpdir(), "email-listener-rabbit-"));
let started: RabbitRig | undefined;

function rabbit(): RabbitRig {
  if (!started) throw new Error("RabbitMQ has not been started");
  return started;
}

before(
  async () => {
    const { ca, server } = await makeCertificates();
    const [tlsPort = 0] = await freePorts(1);
    for (const [name, text] of Object.entries({ ca, cert: server.cert, key: server.key })) {
      writeFileSync(join(folder, `${name}.pem`), text);
    }
    const config = `
listeners.ssl.1 = 127.0.0.1:${tlsPort}
ssl_options.cacertfile = ${join(folder, "ca.pem")}
ssl_options.certfile = ${join(folder, "cert.pem")}
ssl_options.keyfile = ${join(folder, "key.pem")}
ssl_options.verify = verify_none
`;
    started = { ...(await startRabbitMq({ config })), tlsPort, ca };
  },
  { timeout: 120_000 },
);

after(async () => {
  await started?.remove();
  rmSync(folder, { recursive: true });
});

/** What very many tasks cost is the broker's work: each runtime shows it with one of the types. */
const LARGE = "bun" in process.versions ? "quorum" : "classic";

const newName = namer();
for (const type of ["quorum", "classic"] as const) {
  queuePromises(`RabbitMQ queue (${type})`, () =>
    placeAt({ rabbitUrl: rabbit().url, name: newName(type), type }, type === LARGE),
  );
  preferencePromises(`RabbitMQ queue (${type})`, () => ({ rabbitUrl: rabbit().url, name: newName(type), type }));
}
rabbitTaskPromises(rabbit);
rabbitSetupPromises(rabbit);
rabbitFaultPromises(rabbit);
