/** Finds Python with exchangelib, a client of Exchange that nobody here wrote; installs Debian's package where it may. */
import { canInstall, installPackages, isThere } from "./install.ts";
import { run } from "./program.ts";
import type { TestContext } from "./provide.ts";

// Debian's packages belong to Debian's Python, whatever else is on the path.
const PYTHON = "/usr/bin/python3";

async function found(): Promise<boolean> {
  if (!(await isThere(PYTHON))) return false;
  return run(PYTHON, ["-c", "import exchangelib"]).then(
    () => true,
    () => false,
  );
}

/** The Python that knows exchangelib; undefined when there is none, and then the reason was printed. */
export async function pythonWithExchangelib(): Promise<string | undefined> {
  if (await found()) return PYTHON;
  if (await canInstall()) await installPackages(["python3-exchangelib"]);
  if (await found()) return PYTHON;
  const why = "exchangelib is not here: install Debian's python3-exchangelib";
  if (process.env["TESTS_MUST_NOT_SKIP"]) throw new Error(why);
  console.log(`Skipped: ${why}`);
  return undefined;
}

/** As `pythonWithExchangelib`, inside a test: skips it when there is none. */
export async function exchangelibOrSkip(context: TestContext): Promise<string | undefined> {
  const python = await pythonWithExchangelib();
  if (!python) context.skip("no exchangelib");
  return python;
}
