// A client of one calderad, for one tenant or the operator, as docs/protocol.md describes the
// service. It holds no connection and no state of jobs: a job has a name, by which any client of
// the same tenant goes on with it.

import { base64 } from "./base64.js";
import { CalderaError } from "./error.js";
import { EventParser } from "./events.js";
import { Leash, pause, within, type Limits } from "./leash.js";
import type {
  CheckLevel,
  CircuitInfo,
  Digest,
  JobName,
  JobResult,
  JobState,
  JobStatus,
  Methods,
  PoolStatus,
} from "./protocol.js";
import { hex, Sha256 } from "./sha256.js";
import { digestOf, Reading, sizeOf, type Content } from "./source.js";
import { parseSecret, sign, type Account } from "./token.js";
import { beginning, refusal, Wire, type Request, type Retry } from "./wire.js";

/** A token that somebody else made, or where to ask for one: it is asked for before each request. */
export interface GivenToken {
  token: string | (() => string | Promise<string>);
}

/** Where the service is, who speaks to it, and how. */
export type ClientOptions = (Account | GivenToken) & {
  /** `http(s)://HOST:PORT`. */
  url: string;
  /** How long an answer may take that nobody asked to be late; 30,000 by default. */
  answerTimeoutMs?: number;
  retry?: Partial<Retry>;
  /** Another `fetch` than the platform's: for a proxy, for a certificate of one's own. */
  fetch?: typeof fetch;
};

export type MethodName = keyof Methods;

/** A call of a batch. */
export type Call = { [M in MethodName]: { method: M; params: Methods[M]["params"] } }[MethodName];

/** What comes of the calls of a batch, in their order. */
export type Settled<C extends readonly Call[]> = {
  -readonly [I in keyof C]: PromiseSettledResult<Methods[C[I]["method"]]["result"]>;
};

export interface UploadOptions extends Limits {
  /** The digest, if it is known: then the content is read once and not twice. */
  digest?: Digest | undefined;
}

export interface RegisterOptions extends Limits {
  name?: string | undefined;
  check?: CheckLevel | undefined;
  /** A path on the box from which the key can be read again. */
  source?: string | undefined;
  /** circom's witness program: then the service computes witnesses, and takes inputs. */
  witnessProgram?: Content | Digest | undefined;
  /** The circuit's constraints, against which the service holds what the program computes. */
  r1cs?: Content | Digest | undefined;
}

export interface SubmitOptions extends Limits {
  /** When the proof is needed, from receipt. */
  deadlineMs?: number | undefined;
  /**
   * The name of this submission: the same submission under the same key is the same job. One is
   * made up if none is given, so that a call that was tried again is one job; give one where the
   * caller itself may be started again.
   */
  idempotencyKey?: string | undefined;
}

/** A blob, or its digest alone. */
interface Named {
  digest: Digest;
  content: Content | Digest;
}

/** What is told of a job as it goes. */
export type JobEvent =
  | { type: "status"; status: JobStatus }
  | { type: "result"; result: JobResult };

export class Client {
  readonly #wire: Wire;
  readonly #answerTimeoutMs: number;

  constructor(options: ClientOptions) {
    const retry = { attempts: 8, baseMs: 100, capMs: 5000, ...options.retry };
    let token: () => string | Promise<string>;
    if ("token" in options) {
      const given = options.token;
      token = typeof given === "string" ? () => given : given;
    } else {
      const { tenant } = options;
      const secret = parseSecret(options.secret);
      token = () => sign(tenant, secret, Math.floor(Date.now() / 1000));
    }
    this.#wire = new Wire(options.url, token, retry, options.fetch ?? globalThis.fetch);
    this.#answerTimeoutMs = options.answerTimeoutMs ?? 30_000;
  }

  /** Calls any method of the service. */
  async call<M extends MethodName>(
    method: M,
    params: Methods[M]["params"],
    limits: Limits = {},
  ): Promise<Methods[M]["result"]> {
    return await within(limits, method, async (signal) => {
      const [settled] = await this.#settle([{ method, params } as Call], signal);
      if (settled === undefined || settled.status === "rejected") {
        throw settled?.reason;
      }
      return settled.value as Methods[M]["result"];
    });
  }

  /**
   * Calls many methods in as few requests as the service's limits allow. Never fails as a whole:
   * each call has its own end, as with `Promise.allSettled`, and its `reason` is a `CalderaError`.
   * Those that were refused for now are sent again without the others.
   */
  async batch<const C extends readonly Call[]>(calls: C, limits: Limits = {}): Promise<Settled<C>> {
    const leash = new Leash(limits, "a batch");
    try {
      const settled: PromiseSettledResult<unknown>[] = [];
      for (const part of parts(calls)) {
        settled.push(...(await this.#settle(part, leash.signal)));
      }
      return settled as Settled<C>;
    } finally {
      leash.release();
    }
  }

  /** Uploads a blob; gives its digest, by which it is named from now on. */
  async upload(content: Content, options: UploadOptions = {}): Promise<Digest> {
    return await within(options, "upload", async (signal) => {
      const digest = options.digest ?? (await digestOf(content, signal));
      await this.#wire.again(signal, true, () => this.#put(content, digest, signal));
      return digest;
    });
  }

  /** Removes a blob; whether there was one. */
  async removeBlob(digest: Digest, limits: Limits = {}): Promise<boolean> {
    const request: Request = {
      what: "removal",
      method: "DELETE",
      path: `/v1/blobs/${digest}`,
      timeoutMs: this.#answerTimeoutMs,
      good: [200],
    };
    return await within(limits, request.what, async (signal) => {
      try {
        await this.#wire.again(signal, true, () => this.#wire.text(request, signal));
        return true;
      } catch (error) {
        if (error instanceof CalderaError && error.reason === "blobUnknown") {
          return false;
        }
        throw error;
      }
    });
  }

  /**
   * Registers a proving key and waits until proofs can be made with it. The key, and what else belongs
   * to the circuit, is uploaded only if the service does not have it; a digest alone is of one that it has.
   */
  async register(key: Content | Digest, options: RegisterOptions = {}): Promise<CircuitInfo> {
    return await within(options, "registration", async (signal) => {
      const { name, check, source } = options;
      const named = async (content: Content | Digest): Promise<Named> => {
        const digest = typeof content === "string" ? content : await digestOf(content, signal);
        return { digest, content };
      };
      const parts = [await named(key)];
      const { digest: zkey } = parts[0]!;
      const params: Methods["prover_registerCircuitV1"]["params"] = { zkey, name, check, source };
      for (const part of ["witnessProgram", "r1cs"] as const) {
        const content = options[part];
        if (content !== undefined) {
          const it = await named(content);
          params[part] = it.digest;
          parts.push(it);
        }
      }
      const register = () => this.call("prover_registerCircuitV1", params, { signal });
      let info = await this.#uploading(parts, signal, register);
      for (let delay = 25; info.state === "checking"; delay = Math.min(2 * delay, 1000)) {
        await pause(delay, signal);
        const circuits = await this.call("prover_listCircuitsV1", {}, { signal });
        const found = circuits.find((it) => it.circuit === zkey);
        if (found === undefined) {
          const message = `circuit ${zkey}: it was taken off the list while it was checked`;
          throw new CalderaError(message, { reason: "circuitUnknown" });
        }
        info = found;
      }
      if (info.state === "failed") {
        const { code, reason = "internal", message = "no reason given" } = info.error ?? {};
        throw new CalderaError(`circuit ${zkey}: ${message} (${reason})`, { reason, code });
      }
      return info;
    });
  }

  /**
   * Asks for a proof; answers when the job is on the service's disk. A witness that is short goes
   * along, another is uploaded; a digest alone is of one that was uploaded before.
   */
  async submit(
    circuit: Digest,
    witness: Content | Digest,
    options: SubmitOptions = {},
  ): Promise<JobStatus> {
    return await within(options, "submission", async (signal) => {
      const { deadlineMs, idempotencyKey } = options;
      const send = (params: Methods["prover_submitV1"]["params"]) =>
        this.call("prover_submitV1", { ...params, deadlineMs }, { signal });
      if (witness instanceof Uint8Array && witness.length <= WITNESS_DATA_BYTES_MAX) {
        return await send(inline(circuit, witness, idempotencyKey));
      }
      const digest =
        typeof witness === "string" ? witness : await this.upload(witness, { signal });
      // One key for both times, in case that the first has arrived after all.
      const params = { circuit, witness: digest, idempotencyKey: idempotencyKey ?? unique() };
      // It may have been erased in between, with the end of another job that had the same.
      const blob = { digest, content: witness };
      return await this.#uploading([blob], signal, () => send(params));
    });
  }

  /** Waits until a job has ended, by long polls. */
  async wait(job: JobName, limits: Limits = {}): Promise<JobStatus> {
    return await this.#poll(job, limits, async (params, signal) => {
      const status = await this.call("prover_statusV1", params, { signal });
      return ENDED.has(status.state) ? status : undefined;
    });
  }

  /** Waits for the proof of a job. Fails with the job's own error if there will be none. */
  async result(job: JobName, limits: Limits = {}): Promise<JobResult> {
    return await this.#poll(job, limits, async (params, signal) => {
      try {
        return await this.call("prover_resultV1", params, { signal });
      } catch (error) {
        if (error instanceof CalderaError && error.reason === "jobNotFinished") {
          return undefined;
        }
        throw error;
      }
    });
  }

  /**
   * Tells of a job as it goes: its status at each change, and its result. Ends with the job; a
   * stream that breaks is asked for again. Leaving the loop closes the connection.
   */
  async *events(job: JobName, limits: Limits = {}): AsyncGenerator<JobEvent, void, void> {
    const leash = new Leash(limits, `events of job ${job}`);
    try {
      for (let attempt = 1; ; attempt += 1) {
        try {
          for await (const event of this.#stream(job, leash.signal)) {
            attempt = 1;
            yield event;
            if (event.type === "result" || (ENDED.has(event.status.state) && event.status.state !== "proved")) {
              return;
            }
          }
          const message = `events of job ${job}: the stream ended before the job`;
          throw new CalderaError(message, { reason: "unreachable" });
        } catch (error) {
          await this.#wire.backOff(error, attempt, true, leash.signal);
        }
      }
    } finally {
      leash.release();
    }
  }

  /** Cancels a job; a job that has ended stays as it is. */
  async cancel(job: JobName, limits: Limits = {}): Promise<JobStatus> {
    return await this.call("prover_cancelV1", { job }, limits);
  }

  /** Who holds which core of the box. */
  async poolStatus(limits: Limits = {}): Promise<PoolStatus> {
    return await this.call("pool_statusV1", {}, limits);
  }

  /**
   * A proof from a witness: submits, and waits for the result. If it is ended early the job is
   * cancelled, since nobody else knows of it; without waiting for that, and not if the submission
   * itself had no answer yet: such a job runs to its end.
   */
  async prove(
    circuit: Digest,
    witness: Content | Digest,
    options: SubmitOptions = {},
  ): Promise<JobResult> {
    return await within(options, "proof", async (signal) => {
      const { job } = await this.submit(circuit, witness, { ...options, signal, timeoutMs: undefined });
      try {
        return await this.result(job, { signal });
      } catch (error) {
        if (signal.aborted) {
          this.cancel(job, { timeoutMs: this.#answerTimeoutMs }).catch(() => undefined);
        }
        throw error;
      }
    });
  }

  /** Polls until there is something; `wait_ms` of a box may be any, so a poll may answer at once. */
  async #poll<T>(
    job: JobName,
    limits: Limits,
    look: (params: { job: JobName; waitMs: number }, signal: AbortSignal) => Promise<T | undefined>,
  ): Promise<T> {
    return await within(limits, `job ${job}`, async (signal) => {
      for (;;) {
        const begin = Date.now();
        const found = await look({ job, waitMs: WAIT_MS }, signal);
        if (found !== undefined) {
          return found;
        }
        await pause(Math.max(0, POLL_MS_MIN - (Date.now() - begin)), signal);
      }
    });
  }

  /**
   * Does something that needs blobs, and uploads them where the service lacks one. More than once if it
   * must: while a submission waits for room in the queue, the end of another job with the same
   * witness erases it again.
   */
  async #uploading<T>(
    blobs: readonly Named[],
    signal: AbortSignal,
    run: () => Promise<T>,
  ): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await run();
      } catch (error) {
        const lacking = error instanceof CalderaError && error.reason === "blobUnknown";
        const none = blobs.every(({ content }) => typeof content === "string");
        if (!lacking || none || attempt >= this.#wire.retry.attempts) {
          throw error;
        }
      }
      for (const { digest, content } of blobs) {
        if (typeof content !== "string") {
          await this.upload(content, { digest, signal });
        }
      }
    }
  }

  async #put(content: Content, digest: Digest, signal: AbortSignal): Promise<void> {
    const bytes = sizeOf(content);
    const request: Request = {
      what: `upload of ${digest}`,
      method: "PUT",
      path: `/v1/blobs/${digest}`,
      headers: { "Content-Type": "application/octet-stream" },
      // The service itself gives up on a body that comes more slowly than this.
      timeoutMs: this.#answerTimeoutMs + bytes / BODY_BYTES_MS_MIN,
      good: [200, 201],
    };
    let reading: Reading | undefined;
    if (content instanceof Blob) {
      // Streamed by the platform, in browsers too.
      request.body = content;
    } else if (content instanceof Uint8Array) {
      // Memory that is shared between threads is refused by fetch.
      request.body = content as Uint8Array<ArrayBuffer>;
    } else {
      reading = new Reading(content);
      request.body = reading.stream;
      // So that the service can refuse what is too long before it comes. Where a page may not set it, it is chunked.
      request.headers = { ...request.headers, "Content-Length": String(bytes) };
    }
    try {
      await this.#wire.text(request, signal);
    } catch (error) {
      throw reading?.fault ?? error;
    } finally {
      await reading?.close();
    }
  }

  async *#stream(job: JobName, signal: AbortSignal): AsyncGenerator<JobEvent, void, void> {
    const request: Request = {
      what: `events of job ${job}`,
      method: "GET",
      path: `/v1/jobs/${job}/events`,
      headers: { Accept: "text/event-stream" },
      timeoutMs: SILENCE_MS_MAX,
      good: [200],
    };
    const parser = new EventParser();
    for await (const text of this.#wire.chunks(request, signal)) {
      for (const { event, data } of parser.push(text)) {
        const value: unknown = parse(request.what, data);
        if (event === "status" && isObject(value)) {
          yield { type: "status", status: value as unknown as JobStatus };
        } else if (event === "result" && isObject(value)) {
          yield { type: "result", result: value as unknown as JobResult };
        } else if (event === "error" && isObject(value)) {
          // The tenant is not served any more.
          throw refusal(request.what, value) ?? answer(request.what, "an error", data);
        } else if (event === "status" || event === "result") {
          throw answer(request.what, "an object", data);
        }
      }
    }
  }

  /** The end of each of the calls, which fit into one request. */
  async #settle(
    calls: readonly Call[],
    signal: AbortSignal,
  ): Promise<PromiseSettledResult<unknown>[]> {
    const sent = calls.map((call) => withKey(call));
    const repeatable = sent.every(({ method }) => !ONCE.has(method));
    const settled: PromiseSettledResult<unknown>[] = [];
    let open = sent.map((_, at) => at);
    const once = async () => {
      const answers = await this.#post(open.map((at) => ({ ...sent[at]!, id: at })), signal);
      const later: number[] = [];
      let retry: CalderaError | undefined;
      for (const at of open) {
        const { method } = sent[at]!;
        const said = answers.get(at);
        const error = said === undefined ? answer(method, "an answer", "none") : outcome(method, said);
        if (!(error instanceof CalderaError)) {
          settled[at] = { status: "fulfilled", value: error.result };
          continue;
        }
        settled[at] = { status: "rejected", reason: error };
        if (error.refusedForNow) {
          later.push(at);
          // All of them wait for the one that has to wait longest.
          retry = (retry?.retryAfterMs ?? -1) > (error.retryAfterMs ?? 0) ? retry : error;
        }
      }
      open = later;
      if (retry !== undefined) {
        throw retry;
      }
    };
    try {
      await this.#wire.again(signal, repeatable, once);
    } catch (reason) {
      for (const at of open) {
        // The last refusal says more than that the attempts are over; what broke off says itself.
        const own = settled[at];
        const kept = own?.status === "rejected" && !signal.aborted && reason instanceof CalderaError && reason.refusedForNow;
        settled[at] = kept ? own : { status: "rejected", reason };
      }
    }
    return settled;
  }

  /** Sends calls in one request; the answers by their ids. */
  async #post(
    calls: readonly (Call & { id: number })[],
    signal: AbortSignal,
  ): Promise<Map<number, Record<string, unknown>>> {
    const what = calls.length === 1 ? calls[0]!.method : "a batch";
    const bodies = calls.map(({ method, params, id }) => ({ jsonrpc: "2.0", id, method, params }));
    const waits = calls.map(({ params }) => ("waitMs" in params ? Number(params.waitMs ?? 0) : 0));
    const text = await this.#wire.text(
      {
        what,
        method: "POST",
        path: "/",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(bodies.length === 1 ? bodies[0] : bodies),
        timeoutMs: this.#answerTimeoutMs + Math.max(...waits),
        good: [200],
      },
      signal,
    );
    const value: unknown = parse(what, text);
    const answers: unknown[] = Array.isArray(value) ? value : [value];
    const found = new Map<number, Record<string, unknown>>();
    for (const it of answers) {
      if (!isObject(it)) {
        throw answer(what, "answers of JSON-RPC", text);
      }
      if (typeof it["id"] === "number") {
        found.set(it["id"], it);
      } else {
        // The request as a whole was not understood.
        throw refusal(what, it["error"]) ?? answer(what, "an answer with an id", text);
      }
    }
    return found;
  }
}

/**
 * The parameters of a submission whose witness goes along, of at most 65,536 bytes: for batches.
 * Always with an idempotency key.
 */
export function inline(
  circuit: Digest,
  witness: Uint8Array,
  idempotencyKey: string = unique(),
): Methods["prover_submitV1"]["params"] {
  if (witness.length > WITNESS_DATA_BYTES_MAX) {
    const message = `a witness that goes along: expected at most ${WITNESS_DATA_BYTES_MAX} bytes, got ${witness.length}`;
    throw new CalderaError(message, { reason: "usage" });
  }
  const digest = hex(new Sha256().update(witness).digest());
  return { circuit, witness: digest, witnessData: base64(witness), idempotencyKey };
}

/** A submission without an idempotency key could be two jobs after a lost answer. */
function withKey(call: Call): Call {
  if (call.method !== "prover_submitV1" || call.params.idempotencyKey !== undefined) {
    return call;
  }
  return { ...call, params: { ...call.params, idempotencyKey: unique() } };
}

/** Has to be nobody else's, and is no secret: Node 18 and pages without TLS may do without WebCrypto. */
function unique(): string {
  const words = new Uint32Array(4);
  if (typeof globalThis.crypto?.getRandomValues === "function") {
    globalThis.crypto.getRandomValues(words);
  } else {
    words.forEach((_, at) => (words[at] = Math.random() * 2 ** 32));
  }
  return `ts-${Array.from(words, (word) => word.toString(16).padStart(8, "0")).join("")}`;
}

/** Calls in as few requests as can be, in their order. */
function parts(calls: readonly Call[]): Call[][] {
  const requests: Call[][] = [];
  let size = Infinity;
  for (const call of calls) {
    const bytes = JSON.stringify(call).length + CALL_OVERHEAD;
    const last = requests.at(-1);
    if (last === undefined || last.length === BATCH_MAX || size + bytes > BODY_BYTES_MAX) {
      requests.push([call]);
      size = bytes;
    } else {
      last.push(call);
      size += bytes;
    }
  }
  return requests;
}

function outcome(method: string, said: Record<string, unknown>): CalderaError | { result: unknown } {
  if ("result" in said) {
    return { result: said["result"] };
  }
  return refusal(method, said["error"]) ?? answer(method, "a result or an error", JSON.stringify(said));
}

function parse(what: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw answer(what, "JSON", text);
  }
}

function answer(what: string, expected: string, got: string): CalderaError {
  const message = `${what}: expected ${expected}, got ${beginning(got)}`;
  return new CalderaError(message, { reason: "answer" });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const ENDED: ReadonlySet<JobState> = new Set(["proved", "failed", "cancelled"]);
/** What must not be carried out twice: a secret is told once. */
const ONCE: ReadonlySet<MethodName> = new Set(["tenant_addV1", "tenant_rotateV1"]);
// Limits of the service, as docs/protocol.md has them.
const WITNESS_DATA_BYTES_MAX = 65_536;
const BATCH_MAX = 64;
/** Of its MiB some is left for characters that take more than a byte. */
const BODY_BYTES_MAX = 900_000;
/** `jsonrpc`, `id`, an idempotency key and what holds them together. */
const CALL_OVERHEAD = 128;
const BODY_BYTES_MS_MIN = 65.536;
const WAIT_MS = 30_000;
const POLL_MS_MIN = 100;
/** Three of the comments that a stream has every 15 s are missing. */
const SILENCE_MS_MAX = 45_000;
