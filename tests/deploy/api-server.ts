/**
 * A real Kubernetes API server with its etcd, on loopback. The programs are those of KUBE_APISERVER and ETCD, or of the PATH; where there
 * is Go, they are built once from the sources of their modules. There are no nodes: nothing runs, but every document is validated and admitted.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { findProgram } from "../servers/install.ts";
import { freePorts } from "../servers/ports.ts";
import { type Program, startProgram } from "../servers/program.ts";
import { eventually } from "../servers/waiting.ts";

const KUBERNETES = "1.35.4";
const ETCD = "3.6.5";
const BUILD_MS = 60 * 60_000;

export type ApiServer = {
  version: string;
  /** Runs kubectl against the server, with this on its standard input. */
  kubectl(args: string[], input?: string): { ok: boolean; output: string };
  stop(): Promise<void>;
};

/** Starts both programs. Rejects with the reason where one is neither there nor can be built. */
export async function startApiServer(): Promise<ApiServer> {
  const programs = await findPrograms();
  const folder = mkdtempSync(join(tmpdir(), "kubernetes-"));
  const started: Program[] = [];
  const stop = async () => {
    for (const program of started.toReversed()) await program.stop();
    rmSync(folder, { recursive: true });
  };
  try {
    const [client = 0, peer = 0, port = 0] = await freePorts(3);
    const token = randomUUID();
    writeCredentials(folder, token);
    started.push(await startProgram(programs.etcd, etcdArguments(folder, client, peer)));
    started.push(await startProgram(programs.apiServer, apiServerArguments(folder, client, port)));
    const own = ["--server", `https://127.0.0.1:${port}`, "--token", token, "--insecure-skip-tls-verify"];
    const kubectl = (args: string[], input = "") => {
      const done = spawnSync("kubectl", [...own, ...args], { encoding: "utf8", input, timeout: 60_000 });
      return { ok: done.status === 0, output: `${done.stdout}${done.stderr}`.trim() };
    };
    await eventually(() => kubectl(["get", "--raw", "/readyz"]).ok, "the API server to be ready", 120_000, 500);
    return { version: KUBERNETES, kubectl, stop };
  } catch (error) {
    const said = started.at(-1)?.output().split("\n").slice(-3).join(" ");
    await stop();
    throw new Error(`The API server does not start: ${said}`, { cause: error });
  }
}

function writeCredentials(folder: string, token: string): void {
  writeFileSync(join(folder, "tokens.csv"), `${token},admin,1,"system:masters"\n`);
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  writeFileSync(join(folder, "key.pem"), privateKey.export({ type: "pkcs8", format: "pem" }));
  writeFileSync(join(folder, "key.pub"), publicKey.export({ type: "spki", format: "pem" }));
}

function etcdArguments(folder: string, client: number, peer: number): string[] {
  const [own, peers] = [`http://127.0.0.1:${client}`, `http://127.0.0.1:${peer}`];
  return [
    `--data-dir=${join(folder, "etcd")}`,
    `--listen-client-urls=${own}`,
    `--advertise-client-urls=${own}`,
    `--listen-peer-urls=${peers}`,
    `--initial-advertise-peer-urls=${peers}`,
    `--initial-cluster=default=${peers}`,
  ];
}

function apiServerArguments(folder: string, etcd: number, port: number): string[] {
  return [
    `--etcd-servers=http://127.0.0.1:${etcd}`,
    "--bind-address=127.0.0.1",
    `--secure-port=${port}`,
    `--cert-dir=${join(folder, "certificates")}`,
    `--token-auth-file=${join(folder, "tokens.csv")}`,
    "--authorization-mode=RBAC",
    "--service-account-issuer=https://127.0.0.1",
    `--service-account-key-file=${join(folder, "key.pub")}`,
    `--service-account-signing-key-file=${join(folder, "key.pem")}`,
    "--service-cluster-ip-range=10.96.0.0/16",
    // A controller that is not here makes the tokens.
    "--disable-admission-plugins=ServiceAccount",
  ];
}

async function findPrograms(): Promise<{ apiServer: string; etcd: string }> {
  if (!(await findProgram("kubectl"))) throw new Error("There is no kubectl in the PATH");
  const apiServer = process.env["KUBE_APISERVER"] ?? (await findProgram("kube-apiserver"));
  const etcd = process.env["ETCD"] ?? (await findProgram("etcd"));
  if (apiServer && etcd) return { apiServer, etcd };
  if (!(await findProgram("go"))) throw new Error("Set KUBE_APISERVER and ETCD, or install Go, which builds them");
  const folder = join(homedir(), ".cache", "email-listener", `kubernetes-${KUBERNETES}`);
  const built = { apiServer: join(folder, "kube-apiserver"), etcd: join(folder, "etcd") };
  if (!existsSync(built.apiServer) || !existsSync(built.etcd)) build(folder, built);
  return built;
}

function build(folder: string, { apiServer, etcd }: { apiServer: string; etcd: string }): void {
  console.log(`Building kube-apiserver ${KUBERNETES} and etcd ${ETCD} in ${folder}: once, some ten minutes`);
  mkdirSync(folder, { recursive: true });
  const go = (args: string[]) => {
    const env = { ...process.env, GOFLAGS: "-mod=mod", CGO_ENABLED: "0" };
    const done = spawnSync("go", args, { cwd: folder, encoding: "utf8", env, timeout: BUILD_MS });
    if (done.status !== 0) throw new Error(`go ${args[0]} failed: ${done.stderr.slice(-500)}`);
    return done.stdout;
  };
  const head = `module trycluster\n\ngo 1.25.0\n\nrequire (\n\tk8s.io/kubernetes v${KUBERNETES}\n\tgo.etcd.io/etcd/server/v3 v${ETCD}\n)\n`;
  writeFileSync(join(folder, "go.mod"), head);
  const { Dir } = JSON.parse(go(["mod", "download", "-json", `k8s.io/kubernetes@v${KUBERNETES}`]));
  // Kubernetes takes its own parts from its source tree; here they are modules of the same release.
  const parts = [...readFileSync(join(Dir, "go.mod"), "utf8").matchAll(/^\t(\S+) => \.\/staging\//gm)];
  const replaced = parts.map(([, name]) => `replace ${name} => ${name} v${KUBERNETES.replace(/^1/, "0")}\n`);
  writeFileSync(join(folder, "go.mod"), `${head}\n${replaced.join("")}`);
  const named = `-X k8s.io/component-base/version.gitVersion=v${KUBERNETES}`;
  go(["build", "-ldflags", `-s -w ${named}`, "-o", apiServer, "k8s.io/kubernetes/cmd/kube-apiserver"]);
  go(["build", "-ldflags", "-s -w", "-o", etcd, "go.etcd.io/etcd/server/v3"]);
}
