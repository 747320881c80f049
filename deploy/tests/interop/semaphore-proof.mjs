// Makes a proof as a Semaphore application does: by its own packages, with the key of its ceremony.
//
//   node semaphore-proof.mjs DEPTH MESSAGE SCOPE
//
// Prints {"proof": .., "publicSignals": [root, nullifier, message, scope]} as snarkjs has them. The package
// packs the proof's points for its contracts and gives message and scope as they were before they were hashed; both are
// undone here. The identity and the group are always the same.

import { createRequire } from "node:module";
import path from "node:path";
import { Group } from "@semaphore-protocol/group";
import { Identity } from "@semaphore-protocol/identity";
import { generateProof, verifyProof } from "@semaphore-protocol/proof";

const [depthText, message, scope] = process.argv.slice(2);
const depth = Number(depthText);
if (!Number.isInteger(depth) || depth < 1 || depth > 32 || scope === undefined) {
  console.error("usage: node semaphore-proof.mjs DEPTH(1..32) MESSAGE SCOPE");
  process.exit(2);
}
const require = createRequire(import.meta.url);
const artifacts = path.dirname(require.resolve("@zk-kit/semaphore-artifacts/package.json"));
// That of the package, which has it for the same end.
const { keccak256, toBeHex } = createRequire(require.resolve("@semaphore-protocol/proof"))("ethers");
const [wasm, zkey] = ["wasm", "zkey"].map((it) => path.join(artifacts, `semaphore-${depth}.${it}`));

const identity = new Identity("caldera");
const group = new Group([1n, identity.commitment]);
const made = await generateProof(identity, group, message, scope, depth, { wasm, zkey });
if (!(await verifyProof(made))) {
  console.error("the package refuses its own proof");
  process.exit(1);
}
// The circuit takes 248 bits of a hash, so that any text is a field element.
const hash = (number) => (BigInt(keccak256(toBeHex(number, 32))) >> 8n).toString();
const [ax, ay, bx1, bx0, by1, by0, cx, cy] = made.points;
const proof = {
  pi_a: [ax, ay, "1"],
  pi_b: [[bx0, bx1], [by0, by1], ["1", "0"]],
  pi_c: [cx, cy, "1"],
  protocol: "groth16",
  curve: "bn128",
};
const publicSignals = [made.merkleTreeRoot, made.nullifier, hash(made.message), hash(made.scope)];
console.log(JSON.stringify({ proof, publicSignals }));
// snarkjs keeps worker threads alive; without this the process would never end.
process.exit(0);
