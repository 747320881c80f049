// Makes witnesses for the Semaphore v4 circuit of one depth, by the circuit's own wasm.
//
//   node semaphore-witness.mjs DEPTH OUT.wtns...
//
// The circuit computes the Merkle root as an output and compares it with nothing, so any
// siblings make a valid witness. Full-depth paths of large siblings are used, because a
// short path would leave most of the witness zero and the proof unrealistically cheap. Each
// output gets its own message, so that no two witnesses, and no two proofs, are of the same
// statement. Nothing here is random: the same command writes the same bytes.

import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import path from "node:path";
import * as snarkjs from "snarkjs";

const [depthText, ...outputs] = process.argv.slice(2);
const depth = Number(depthText);
if (!Number.isInteger(depth) || depth < 1 || depth > 32 || outputs.length === 0) {
  console.error("usage: node semaphore-witness.mjs DEPTH(1..32) OUT.wtns...");
  process.exit(2);
}

// 248 bits of SHA-256: below the scalar field's modulus, and below the order of the curve that
// Semaphore's secret must stay under.
const number = (label) =>
  BigInt("0x" + createHash("sha256").update(label).digest("hex").slice(2)).toString();

const artifacts = path.dirname(
  createRequire(import.meta.url).resolve("@zk-kit/semaphore-artifacts/package.json"),
);
const wasm = path.join(artifacts, `semaphore-${depth}.wasm`);
const siblings = Array.from({ length: depth }, (_, level) => number(`sibling ${level}`));

for (const [index, output] of outputs.entries()) {
  const input = {
    secret: number("secret"),
    merkleProofLength: depth,
    merkleProofIndex: 1,
    merkleProofSiblings: siblings,
    message: number(`message ${index}`),
    scope: number("scope"),
  };
  await snarkjs.wtns.calculate(input, wasm, output);
}
// snarkjs keeps worker threads alive; without this the process would never end.
process.exit(0);
