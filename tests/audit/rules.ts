/** What the audit accepts. Whoever adds an entry has looked at the package, and says why it is all right. */

/** Licences whose texts ask for no more than to keep a notice. */
export const ACCEPTED_LICENCES: ReadonlySet<string> = new Set([
  "0BSD",
  "Apache-2.0",
  "BlueOak-1.0.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "CC0-1.0",
  "ISC",
  "MIT",
  "MIT-0",
  "Python-2.0",
  "Unlicense",
]);

/** Packages that only tests use, with another licence. No image and no installation of users has them. */
export const ACCEPTED_FOR_TESTS: Readonly<Record<string, string>> = {
  // Used unchanged. Only changes of its own files would have to be published.
  "axe-core": "MPL-2.0",
};

/** Packages with scripts for their installation. Bun runs only those that `trustedDependencies` of package.json names. */
export const REVIEWED_INSTALL_SCRIPTS: Readonly<Record<string, string>> = {
  bun: "Puts the runtime of this platform, a package of its own, in place of a placeholder.",
  node: "Gets the Node 24 of this platform from a package of its own.",
  deno: "Not run. The runtime of this platform is a package of its own.",
  protobufjs: "Not run. It only compares version numbers and prints a hint.",
  ssh2: "Not run. It builds an optional faster cipher.",
  "cpu-features": "Not run. It builds an optional native helper of ssh2.",
};
