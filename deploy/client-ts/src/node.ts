// What only Node has: files.

import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { Readable } from "node:stream";

import type { Source } from "./source.js";
import { parseSecret } from "./token.js";

/** A file to upload. It must not change until it was. */
export async function openFile(path: string): Promise<Source> {
  const { size } = await stat(path);
  return {
    size,
    stream: () => Readable.toWeb(createReadStream(path)) as ReadableStream<Uint8Array>,
  };
}

/** The secret of a tenant, as its secret file has it. */
export async function readSecret(path: string): Promise<Uint8Array> {
  return parseSecret(await readFile(path, "utf8"));
}
