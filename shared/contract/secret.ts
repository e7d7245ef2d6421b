/** A value that cannot be printed: logs, JSON and string templates show a placeholder instead. */

const HIDDEN = "[secret]";

/** Holds a password, token or key. Only `reveal()` returns it, so a search for that word finds every use. */
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
