/** A value that cannot be printed: logs, JSON and string templates show a placeholder instead of it. */

const HIDDEN = "[secret]";

/** Holds a password, token or key. Only `reveal()` gives it back, so every use can be found by that word. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return HIDDEN;
  }

  toJSON(): string {
    return HIDDEN;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return HIDDEN;
  }
}
