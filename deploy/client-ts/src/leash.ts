// How long something may go on: until the caller's AbortSignal, or until a time is over. `within`
// is for what ends by itself, `Leash` for what is read bit by bit.
//
// AbortSignal.any and AbortSignal.timeout would say the same, but the first came with Node 20 and
// neither says in which words to fail.

import { CalderaError } from "./error.js";

/** What any call may be given. */
export interface Limits {
  /** Ends the call, which then fails with `aborted`. */
  signal?: AbortSignal | undefined;
  /** Ends the call after so long, with whatever it has tried again; it then fails with `timeout`. */
  timeoutMs?: number | undefined;
}

/** A signal of one's own that follows the caller's and a clock. To be released. */
export class Leash {
  readonly #controller = new AbortController();
  readonly #parent: AbortSignal | undefined;
  readonly #what: string;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(limits: Limits, what: string) {
    this.#parent = limits.signal;
    this.#what = what;
    if (this.#parent?.aborted === true) {
      this.#follow();
    } else {
      this.#parent?.addEventListener("abort", this.#follow, { once: true });
    }
    if (limits.timeoutMs !== undefined) {
      this.renew(limits.timeoutMs);
    }
  }

  /** Aborted with the error to throw. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Starts the clock again. */
  renew(timeoutMs: number): void {
    clearTimeout(this.#timer);
    const end = () => {
      const message = `${this.#what}: not done after ${timeoutMs} ms`;
      this.#controller.abort(new CalderaError(message, { reason: "timeout" }));
    };
    // A longer time than a timer can hold would be over at once.
    this.#timer = setTimeout(end, Math.min(timeoutMs, TIMER_MS_MAX));
  }

  /** Lets go of the clock and of the caller's signal, and ends what still follows this one. */
  release(): void {
    clearTimeout(this.#timer);
    this.#parent?.removeEventListener("abort", this.#follow);
    this.#controller.abort(new CalderaError(`${this.#what}: done`, { reason: "aborted" }));
  }

  readonly #follow = (): void => {
    const cause: unknown = this.#parent?.reason;
    const error =
      cause instanceof CalderaError
        ? cause
        : new CalderaError(`${this.#what}: aborted by the caller`, { reason: "aborted", cause });
    this.#controller.abort(error);
  };
}

/** Runs something within limits. What it does has to follow the signal. */
export async function within<T>(
  limits: Limits,
  what: string,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const leash = new Leash(limits, what);
  try {
    leash.signal.throwIfAborted();
    return await run(leash.signal);
  } catch (error) {
    throw leash.signal.aborted ? leash.signal.reason : error;
  } finally {
    leash.release();
  }
}

/** Waits, or fails with the signal's reason. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal.addEventListener("abort", abort, { once: true });
  });
}

const TIMER_MS_MAX = 2 ** 31 - 1;
