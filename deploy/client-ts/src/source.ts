// What is uploaded: bytes, or something that can be read from its beginning as often as is needed,
// for a digest first and for each time that an upload has to be tried again. A `Blob` or `File` of
// the browser is one, and `openFile` of the Node part makes one.

import { CalderaError } from "./error.js";
import { hex, Sha256 } from "./sha256.js";

/** Bytes that are somewhere else. */
export interface Source {
  /** How many. */
  readonly size: number;
  /** Reads them from the beginning, each time that it is called. */
  stream(): ReadableStream<Uint8Array>;
}

/** What can be uploaded. */
export type Content = Uint8Array | Source;

/** How many bytes there are. */
export function sizeOf(content: Content): number {
  return content instanceof Uint8Array ? content.length : content.size;
}

/** The digest by which the service knows a content: it is read once. */
export async function digestOf(content: Content, signal: AbortSignal): Promise<string> {
  const digest = new Sha256();
  if (content instanceof Uint8Array) {
    return hex(digest.update(content).digest());
  }
  const reading = new Reading(content);
  const reader = reading.stream.getReader();
  try {
    for (;;) {
      signal.throwIfAborted();
      const { done, value } = await reader.read();
      if (done) {
        return hex(digest.digest());
      }
      digest.update(value);
    }
  } finally {
    await reading.close();
  }
}

/** A source as it is read once: piece by piece, only as fast as somebody takes it, and of no other length. */
export class Reading {
  /** Why it could not be read. Then `stream` fails too, but whoever sends it says something else. */
  fault: CalderaError | undefined;
  readonly stream: ReadableStream<Uint8Array>;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;

  constructor(source: Source) {
    let bytes = 0;
    const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
      try {
        this.#reader ??= source.stream().getReader();
        const { done, value } = await this.#reader.read();
        bytes += value?.length ?? 0;
        if (done ? bytes !== source.size : bytes > source.size) {
          throw new RangeError(`expected ${source.size} bytes, got ${done ? "" : "at least "}${bytes}`);
        }
        if (done) {
          controller.close();
        } else {
          controller.enqueue(value);
        }
      } catch (cause) {
        const message = `what is to be uploaded cannot be read: ${String(cause)}`;
        this.fault = new CalderaError(message, { reason: "source", cause });
        controller.error(this.fault);
      }
    };
    this.stream = new ReadableStream({ pull }, { highWaterMark: 0 });
  }

  /** Lets go of the source, whoever still has the stream: fetch does not when an answer comes early. */
  async close(): Promise<void> {
    await this.#reader?.cancel().catch(() => undefined);
  }
}
