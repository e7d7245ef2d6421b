/** The audit finds what it is there for, and the list of dependencies is true. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import manifest from "../package.json" with { type: "json" };
import { findFaults, isAccepted } from "./audit/findings.ts";
import { readPackages } from "./audit/packages.ts";
import { ACCEPTED_LICENCES, REVIEWED_INSTALL_SCRIPTS } from "./audit/rules.ts";
import { makeSbom } from "./audit/sbom.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "email-listener-audit-"));
after(() => rmSync(directory, { recursive: true }));

/** A project with one dependency that has this manifest. */
function projectWith(dependency: object, locked: object = {}): string {
  const folder = mkdtempSync(join(directory, "project-"));
  mkdirSync(join(folder, "node_modules/one"), { recursive: true });
  const known = { name: "one", version: "1.0.0", license: "MIT" };
  writeFileSync(join(folder, "node_modules/one/package.json"), JSON.stringify({ ...known, ...dependency }));
  const packages = { one: ["one@1.0.0", "", {}, "sha512-AAAA"], ...locked };
  const lock = { workspaces: { "": { dependencies: { one: "1.0.0" } } }, packages };
  writeFileSync(join(folder, "bun.lock"), JSON.stringify(lock).replaceAll("]}", "],}"));
  return folder;
}

const rules = { licences: ACCEPTED_LICENCES, installScripts: {} };
const faultsOf = (dependency: object, locked?: object) =>
  findFaults(readPackages(projectWith(dependency, locked)), rules);

describe("the audit", () => {
  test("accepts the packages of this project, and would notice each of them without its entry", () => {
    const packages = readPackages(root);
    assert.deepEqual(findFaults(packages), []);
    assert.ok(packages.all.length > 500 && packages.all.filter(({ installed }) => installed).length > 400);
    const none = findFaults(packages, { licences: new Set(), installScripts: {} });
    for (const name of ["bun", "node", "deno"])
      assert.ok(none.some((fault) => fault.startsWith(`${name}@`) && /scripts/.test(fault)));
    const strict = findFaults(packages, { licences: ACCEPTED_LICENCES, installScripts: REVIEWED_INSTALL_SCRIPTS });
    assert.match(strict.join("\n"), /^axe-core@\S+ has a licence that nobody accepted: MPL-2.0$/);
    assert.ok(none.some((fault) => /^imapflow@.*licence that nobody accepted: MIT$/.test(fault)));
  });

  test("finds unknown licences, install scripts, wrong versions and missing hashes", () => {
    assert.deepEqual(faultsOf({}), []);
    assert.match(faultsOf({ license: "SSPL-1.0" }).join(), /one@1.0.0 has a licence that nobody accepted: SSPL-1.0/);
    assert.match(faultsOf({ license: undefined }).join(), /one@1.0.0 names no licence/);
    assert.deepEqual(faultsOf({ license: undefined, licenses: [{ type: "MIT" }] }), []);
    const scripts = faultsOf({ scripts: { postinstall: "curl evil", test: "x" } }).join();
    assert.match(scripts, /runs scripts that nobody reviewed: postinstall/);
    assert.match(scripts, /needed at run time and wants to run scripts/);
    assert.match(faultsOf({ version: "1.0.1" }).join(), /one@1.0.0 is installed as 1.0.1/);
    assert.match(faultsOf({}, { two: ["two@1.0.0", "", {}, "sha1-x"] }).join(), /two@1.0.0 has no SHA-512/);
    const stale = findFaults(readPackages(projectWith({})), { ...rules, installScripts: { gone: "why" } });
    assert.match(stale.join(), /gone is listed .* remove it/);
  });

  test("reads SPDX expressions", () => {
    const accepted = new Set(["MIT", "ISC"]);
    for (const good of ["MIT", "(MIT OR GPL-3.0)", "MIT AND ISC", "GPL-3.0 OR (MIT AND ISC)", "((MIT))"])
      assert.equal(isAccepted(good, accepted), true, good);
    for (const bad of [
      "GPL-3.0",
      "MIT AND GPL-3.0",
      "(MIT OR ISC) AND GPL-3.0",
      "",
      "(MIT",
      "MIT)",
      "MIT ISC",
      "MIT OR",
      "SEE LICENSE IN x",
    ])
      assert.equal(isAccepted(bad, accepted), false, bad);
  });

  test("knows what is needed at run time, also inside other packages", () => {
    const folder = projectWith(
      {},
      {
        one: [
          "one@1.0.0",
          "",
          { dependencies: { deep: "1" }, peerDependencies: { peer: "1", never: "1" }, optionalPeers: ["never"] },
          "sha512-AAAA",
        ],
        "one/deep": ["deep@1.0.0", "", { dependencies: { "@a/b": "1" } }, "sha512-AAAA"],
        "@a/b": ["@a/b@1.0.0", "", {}, "sha512-AAAA"],
        deep: ["deep@2.0.0", "", {}, "sha512-AAAA"],
        peer: ["peer@1.0.0", "", {}, "sha512-AAAA"],
        never: ["never@1.0.0", "", {}, "sha512-AAAA"],
      },
    );
    const { all } = readPackages(folder);
    const needed = all.filter(({ atRunTime }) => atRunTime).map(({ name, version }) => `${name}@${version}`);
    assert.deepEqual(needed.toSorted(), ["@a/b@1.0.0", "deep@1.0.0", "one@1.0.0", "peer@1.0.0"]);
  });

  test("writes a bill of materials with every package, its hash and licence", () => {
    const { all } = readPackages(root);
    const { components, ...head } = makeSbom(all);
    assert.deepEqual([head.bomFormat, head.specVersion, head.version], ["CycloneDX", "1.6", 1]);
    const refs = new Set(components.map((one) => one["bom-ref"]));
    assert.equal(refs.size, components.length, "no reference is there twice");
    assert.equal(refs.size, new Set(all.map(({ name, version }) => `${name}@${version}`)).size);
    const hono = components.find(({ name }) => name === "@hono/node-server");
    assert.equal(hono?.purl, `pkg:npm/%40hono/node-server@${manifest.dependencies["@hono/node-server"]}`);
    assert.equal(hono?.scope, "required");
    assert.match(hono?.hashes[0]?.content ?? "", /^[0-9a-f]{128}$/);
    assert.equal(components.find(({ name }) => name === "oxfmt")?.scope, "excluded");
  });
});

describe("docs/dependencies.md", () => {
  test("gives a reason for each run-time dependency, and for nothing else", () => {
    const rows = [
      ...readFileSync(join(root, "docs/dependencies.md"), "utf8").matchAll(/^\| `([^`]+)` +\| (.+?) +\|$/gm),
    ];
    assert.deepEqual(
      rows.map(([, name]) => name),
      Object.keys(manifest.dependencies),
    );
    for (const [, name = "", why = ""] of rows) assert.match(why, /^[A-Z].{15,}\.$/, name);
  });
});
