/** Loaded before a measured program: collects its garbage on SIGUSR2, so that what is measured is what it holds. */
process.on("SIGUSR2", () => {
  globalThis.gc?.();
});
