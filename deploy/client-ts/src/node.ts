// What only Node has: files.

import { open, readFile, stat, type FileHandle } from "node:fs/promises";

import type { Source } from "./source.js";
import { parseSecret } from "./token.js";

/** A file to upload. It must not change until it was. */
export async function openFile(path: string): Promise<Source> {
  const { size } = await stat(path);
  return { size, stream: () => read(path) };
}

/** The secret of a tenant, as its secret file has it. */
export async function readSecret(path: string): Promise<Uint8Array> {
  return parseSecret(await readFile(path, "utf8"));
}

/**
 * A file, opened when somebody begins to read and read as fast as somebody does. Not by
 * `Readable.toWeb`, which in Node 18 throws where nobody can catch it when its reader has left.
 */
function read(path: string): ReadableStream<Uint8Array> {
  let file: Promise<FileHandle> | undefined;
  const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
    file ??= open(path);
    const handle = await file;
    let end = true;
    try {
      const buffer = new Uint8Array(PIECE_BYTES);
      const { bytesRead } = await handle.read(buffer, 0, PIECE_BYTES, null);
      end = bytesRead === 0;
      if (end) {
        controller.close();
      } else {
        controller.enqueue(buffer.subarray(0, bytesRead));
      }
    } finally {
      if (end) {
        await handle.close();
      }
    }
  };
  const cancel = async () => {
    await (await file)?.close();
  };
  return new ReadableStream({ pull, cancel }, { highWaterMark: 0 });
}

const PIECE_BYTES = 256 * 1024;
