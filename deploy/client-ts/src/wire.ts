// Requests over HTTP: a token for each, an end to each, an answer of a bounded size, and whether and
// when to try again.
//
// Two kinds of failure are tried again. What the service refuses for now it has not carried out:
// it is sent again, never earlier than the service says. What got no answer may have been carried
// out: it is sent again only where twice is as good as once, which the caller says. Before each
// new try there is a random pause, whose longest doubles each time, so that many clients who
// failed together do not come back together (AWS calls it full jitter).

import { CalderaError } from "./error.js";
import { Leash, pause, within } from "./leash.js";

/** How a client tries again. */
export interface Retry {
  /** How often at most it tries at all; 1 is never again. 8 by default. */
  attempts: number;
  /** The longest pause before the second attempt; it doubles with each. 100 by default. */
  baseMs: number;
  /** The longest pause of all. 5,000 by default. */
  capMs: number;
}

/** One request. */
export interface Request {
  /** For messages. */
  what: string;
  method: "POST" | "PUT" | "DELETE" | "GET";
  path: string;
  headers?: Record<string, string>;
  body?: BodyInit;
  timeoutMs: number;
  /** The statuses whose body is the answer. */
  good: readonly number[];
}

export class Wire {
  readonly url: string;
  readonly retry: Retry;
  readonly #fetch: typeof fetch;
  readonly #token: () => string | Promise<string>;

  constructor(url: string, token: () => string | Promise<string>, retry: Retry, send: typeof fetch) {
    let parsed: URL;
    try {
      parsed = new URL(url);
    } catch (cause) {
      throw new CalderaError(`the URL of the service: ${String(cause)}`, { reason: "usage", cause });
    }
    if (!/^https?:$/.test(parsed.protocol) || parsed.username !== "" || parsed.search !== "") {
      const message = "the URL of the service: expected http(s)://HOST:PORT, got something else";
      throw new CalderaError(message, { reason: "usage" });
    }
    this.url = parsed.href.replace(/[/]+$/, "");
    this.#token = token;
    this.retry = retry;
    this.#fetch = send;
  }

  /** Sends a request once and reads its answer. */
  async text(request: Request, signal: AbortSignal): Promise<string> {
    return await within({ signal, timeoutMs: request.timeoutMs }, request.what, async (own) => {
      const response = await this.#send(request, own);
      const text = await this.#read(response, own);
      if (!request.good.includes(response.status)) {
        throw failure(request.what, response, text);
      }
      return text;
    });
  }

  /** Sends a request once and hands on the body as it comes; it may be silent for `timeoutMs` at most. */
  async *chunks(request: Request, signal: AbortSignal): AsyncGenerator<string, void, void> {
    const leash = new Leash({ signal, timeoutMs: request.timeoutMs }, request.what);
    try {
      const response = await this.#send(request, leash.signal);
      if (!request.good.includes(response.status)) {
        throw failure(request.what, response, await this.#read(response, leash.signal));
      }
      for await (const text of this.#decoded(response, leash.signal)) {
        leash.renew(request.timeoutMs);
        yield text;
      }
    } finally {
      leash.release();
    }
  }

  /** Does something until it succeeds or must not be tried again. */
  async again<T>(signal: AbortSignal, repeatable: boolean, once: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await once();
      } catch (error) {
        await this.backOff(error, attempt, repeatable, signal);
      }
    }
  }

  /** Waits until something may be tried again that has failed `attempt` times, or throws. */
  async backOff(
    error: unknown,
    attempt: number,
    repeatable: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted();
    const { attempts, baseMs, capMs } = this.retry;
    if (
      !(error instanceof CalderaError) ||
      attempt >= attempts ||
      !(error.refusedForNow || (repeatable && error.unanswered))
    ) {
      throw error;
    }
    const told = error.retryAfterMs ?? 0;
    if (told > TOLD_MS_MAX) {
      throw error;
    }
    await pause(told + Math.random() * Math.min(capMs, baseMs * 2 ** (attempt - 1)), signal);
  }

  async #send(request: Request, signal: AbortSignal): Promise<Response> {
    const token = await this.#token();
    signal.throwIfAborted();
    const init: RequestInit & { duplex?: "half" } = {
      method: request.method,
      headers: { ...request.headers, Authorization: `Bearer ${token}` },
      signal,
      // A token goes to this service and nowhere else, and no answer of it is anybody else's. Node
      // keeps a whole upload in memory unless it knows that it will not have to send it elsewhere.
      redirect: "error",
      credentials: "omit",
      cache: "no-store",
      referrerPolicy: "no-referrer",
    };
    if (request.body !== undefined) {
      init.body = request.body;
    }
    if (request.body instanceof ReadableStream) {
      init.duplex = "half";
    }
    try {
      return await this.#fetch.call(globalThis, this.url + request.path, init);
    } catch (error) {
      throw this.#unreachable(error, signal);
    }
  }

  async #read(response: Response, signal: AbortSignal): Promise<string> {
    let text = "";
    for await (const part of this.#decoded(response, signal)) {
      text += part;
      if (text.length > ANSWER_SIZE_MAX) {
        const message = `expected an answer of at most ${ANSWER_SIZE_MAX} characters, got more`;
        throw new CalderaError(message, { reason: "answer", status: response.status });
      }
    }
    return text;
  }

  async *#decoded(response: Response, signal: AbortSignal): AsyncGenerator<string, void, void> {
    const reader = response.body?.getReader();
    const decoder = new TextDecoder();
    try {
      for (;;) {
        const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
        if (done) {
          return;
        }
        yield decoder.decode(value, { stream: true });
      }
    } catch (error) {
      throw this.#unreachable(error, signal);
    } finally {
      // Whatever was not read nobody wants: the connection is closed.
      await reader?.cancel().catch(() => undefined);
    }
  }

  #unreachable(error: unknown, signal: AbortSignal): unknown {
    if (signal.aborted) {
      return signal.reason;
    }
    // Node says "fetch failed" and why in the cause, of which there may be several.
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const why = (cause as { code?: unknown }).code ?? String(cause);
    const message = `cannot reach calderad at ${this.url}: ${String(why)}`;
    return new CalderaError(message, { reason: "unreachable", cause: error });
  }
}

/** The error object of JSON-RPC, as far as it has what it should. */
export function refusal(what: string, error: unknown, status?: number): CalderaError | undefined {
  const { code, message, data } = (error ?? {}) as Record<string, unknown>;
  const { reason, retryAfterMs, earliestMs, field } = (data ?? {}) as Record<string, unknown>;
  if (typeof reason !== "string") {
    return undefined;
  }
  const number = (value: unknown) => (typeof value === "number" ? value : undefined);
  return new CalderaError(`${what}: ${String(message)} (${reason})`, {
    reason,
    code: number(code),
    status,
    retryAfterMs: number(retryAfterMs),
    earliestMs: number(earliestMs),
    field: typeof field === "string" ? field : undefined,
  });
}

/** Enough of a text to recognise it. */
export function beginning(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}..` : text;
}

function failure(what: string, response: Response, text: string): CalderaError {
  const { status } = response;
  if (status === 401) {
    const message = `${what}: the service does not accept the token`;
    return new CalderaError(message, { reason: "unauthorized", status });
  }
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined;
  }
  const said = refusal(what, (body as { error?: unknown } | undefined)?.error, status);
  if (said !== undefined) {
    return said;
  }
  // A proxy speaks in seconds.
  const seconds = /^\d+$/.exec(response.headers.get("Retry-After") ?? "");
  return new CalderaError(`${what}: HTTP status ${status}: ${beginning(text)}`, {
    reason: "http",
    status,
    retryAfterMs: seconds === null ? undefined : Number(seconds[0]) * 1000,
  });
}

/** The largest answers are lists of circuits and of reallocations: far below this. */
const ANSWER_SIZE_MAX = 64 * 1024 * 1024;
/** A service that asks for more than that is not waited for. */
const TOLD_MS_MAX = 60_000;
