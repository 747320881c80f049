// The one error of this client: whatever goes wrong, `reason` says what, and never gets a second
// meaning. The service's own reasons stand in protocol.ts; those of ServiceHttpReason come from
// requests that are not JSON-RPC; those of ClientReason are this side's.

import type { ServiceReason } from "./protocol.js";

/** Refusals of uploads and of whole requests, which have no code. */
export type ServiceHttpReason =
  /** 401: the name is unknown there, the secret is another, or the clocks are a minute apart. */
  | "unauthorized"
  /** 422: the content has another digest than was announced. */
  | "digestMismatch"
  /** 422: the content has another length than was announced. */
  | "lengthMismatch"
  /** 413: longer than a blob may be. */
  | "blobTooLong"
  /** 409: an unfinished job has it as its witness. */
  | "blobInUse"
  /** Any other status; `status` says which. */
  | "http";

/** What is found out on this side. */
export type ClientReason =
  /** Nobody answers there, or the connection broke before the answer was whole. */
  | "unreachable"
  /** The time that was given is over. */
  | "timeout"
  /** The caller's AbortSignal: `cause` is its reason. */
  | "aborted"
  /** The answer is not what the protocol promises. */
  | "answer"
  /** What was to be uploaded could not be read, or has another size than it said; see `cause`. */
  | "source"
  /** The client was called with what cannot be. */
  | "usage";

/** All that `CalderaError.reason` can be. A newer service may have reasons that are not listed. */
export type Reason = ServiceReason | ServiceHttpReason | ClientReason;

/** What is known of an error beside its message. */
export interface ErrorDetails {
  reason: string;
  code?: number | undefined;
  status?: number | undefined;
  retryAfterMs?: number | undefined;
  earliestMs?: number | undefined;
  field?: string | undefined;
  cause?: unknown;
}

/** Why there is no result. */
export class CalderaError extends Error {
  override readonly name = "CalderaError";
  /** Match on this. */
  readonly reason: Reason;
  /** The code of the JSON-RPC error, if the service sent one. */
  readonly code: number | undefined;
  /** The status of the HTTP answer, if it was not 200. */
  readonly status: number | undefined;
  /** After how many milliseconds the service takes the same again. */
  readonly retryAfterMs: number | undefined;
  /** With `deadlineUnmeetable`: the earliest deadline that it would take, from receipt. */
  readonly earliestMs: number | undefined;
  /** With `invalidParams`: the path of the field that does not fit, as `legs[0].amount`, if it is one. */
  readonly field: string | undefined;

  constructor(message: string, details: ErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.reason = details.reason as Reason;
    this.code = details.code;
    this.status = details.status;
    this.retryAfterMs = details.retryAfterMs;
    this.earliestMs = details.earliestMs;
    this.field = details.field;
  }

  /** Whether the service took nothing and says, or its status says, that the same may go well later. */
  get refusedForNow(): boolean {
    return (
      this.retryAfterMs !== undefined ||
      this.reason === "stopping" ||
      (this.status !== undefined && REFUSED_FOR_NOW.has(this.status))
    );
  }

  /** Whether it is not known what became of the request: it may have been carried out. */
  get unanswered(): boolean {
    return (
      this.reason === "unreachable" ||
      this.reason === "timeout" ||
      (this.status !== undefined && UNANSWERED.has(this.status))
    );
  }
}

// Too early, too many, not now. And what a proxy says that lost the box behind it, or the box of a
// body that came too slowly.
const REFUSED_FOR_NOW = new Set([425, 429, 503]);
const UNANSWERED = new Set([408, 502, 504]);
