/** What is wrong with the packages: unknown licences, install scripts that nobody looked at, and other versions than locked. */
import type { LockedPackage, Packages } from "./packages.ts";
import { ACCEPTED_FOR_TESTS, ACCEPTED_LICENCES, REVIEWED_INSTALL_SCRIPTS } from "./rules.ts";

type Rules = {
  licences: ReadonlySet<string>;
  installScripts: Readonly<Record<string, string>>;
  /** Licences of packages that only tests use, by name. */
  forTests?: Readonly<Record<string, string>>;
};
const RULES: Rules = {
  licences: ACCEPTED_LICENCES,
  installScripts: REVIEWED_INSTALL_SCRIPTS,
  forTests: ACCEPTED_FOR_TESTS,
};

/** One sentence for each fault. Empty when all is well. */
export function findFaults({ all }: Pick<Packages, "all">, rules: Rules = RULES): string[] {
  return [
    ...all.flatMap((one) => findFaultsOf(one, rules)),
    ...Object.keys(rules.installScripts)
      .filter((name) => !all.some((one) => one.name === name && one.installed?.installScripts.length !== 0))
      .map((name) => `${name} is listed as a package with install scripts, and has none: remove it from the list`),
  ];
}

function findFaultsOf({ name, version, integrity, atRunTime, installed }: LockedPackage, rules: Rules): string[] {
  const faults: string[] = [];
  const id = `${name}@${version}`;
  if (!/^sha512-[A-Za-z0-9+/]+={0,2}$/.test(integrity)) faults.push(`${id} has no SHA-512 in the lock file`);
  if (installed === undefined) return faults;
  const { licence, installScripts } = installed;
  if (installed.version !== version) faults.push(`${id} is installed as ${installed.version}: run bun install`);
  if (licence === undefined) faults.push(`${id} names no licence`);
  else if (!isAccepted(licence, rules.licences) && (atRunTime || rules.forTests?.[name] !== licence))
    faults.push(`${id} has a licence that nobody accepted: ${licence}`);
  if (installScripts.length === 0) return faults;
  const scripts = installScripts.join(", ");
  if (rules.installScripts[name] === undefined) faults.push(`${id} runs scripts that nobody reviewed: ${scripts}`);
  if (atRunTime) faults.push(`${id} is needed at run time and wants to run scripts at its installation: ${scripts}`);
  return faults;
}

/** An SPDX expression: of licences joined by OR one must be accepted, of those joined by AND each. */
export function isAccepted(expression: string, accepted: ReadonlySet<string>): boolean {
  const tokens = expression.match(/[()]|[^\s()]+/g) ?? [];
  let at = 0;
  const readOne = (): boolean => {
    const token = tokens[at++];
    if (token !== "(") return token !== undefined && token !== ")" && accepted.has(token);
    const inside = readAny();
    return tokens[at++] === ")" && inside;
  };
  const readAll = (): boolean => {
    let result = readOne();
    while (tokens[at] === "AND") {
      at++;
      result = readOne() && result;
    }
    return result;
  };
  const readAny = (): boolean => {
    let result = readAll();
    while (tokens[at] === "OR") {
      at++;
      result = readAll() || result;
    }
    return result;
  };
  const result = readAny();
  return at === tokens.length && result;
}
