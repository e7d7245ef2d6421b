/** The bill of materials in CycloneDX 1.6 (JSON): every package of the lock file with its version, hash and licence. */
import manifest from "../../package.json" with { type: "json" };
import type { LockedPackage } from "./packages.ts";

/** The document as an object. It has no date and no serial number, so it is the same for the same lock file. */
export function makeSbom(packages: readonly LockedPackage[]) {
  const components = new Map(packages.map((one) => [purlOf(one), toComponent(one, packages)]));
  return {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      component: {
        type: "application",
        "bom-ref": manifest.name,
        name: manifest.name,
        version: manifest.version,
        licenses: [{ license: { id: manifest.license } }],
      },
    },
    components: [...components.values()].toSorted((a, b) => (a.purl < b.purl ? -1 : 1)),
  };
}

function toComponent(one: LockedPackage, packages: readonly LockedPackage[]) {
  const purl = purlOf(one);
  const isNeeded = packages.some((other) => other.atRunTime && purlOf(other) === purl);
  const licence = one.installed?.licence;
  return {
    type: "library",
    "bom-ref": purl,
    name: one.name,
    version: one.version,
    purl,
    // CycloneDX: `excluded` is what only development and tests use.
    scope: isNeeded ? "required" : "excluded",
    hashes: [{ alg: "SHA-512", content: Buffer.from(one.integrity.replace("sha512-", ""), "base64").toString("hex") }],
    ...(licence !== undefined && {
      licenses: [/[\s()]/.test(licence) ? { expression: licence } : { license: { id: licence } }],
    }),
  };
}

/** https://github.com/package-url/purl-spec: the @ of a scope is percent-encoded. */
function purlOf({ name, version }: LockedPackage): string {
  return `pkg:npm/${name.replace("@", "%40")}@${version}`;
}
