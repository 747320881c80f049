// Runs a tiny trusted setup by snarkjs alone, so that a key of another maker can be proven with.
//
//   node ceremony.mjs CURVE CIRCUIT.r1cs FOLDER
//
// CURVE is bn128 or bls12381. Writes to FOLDER:
//   fresh.zkey      phase 2 has not begun: anybody can forge proofs for it
//   final.zkey      after one contribution
//   final.vk.json   its verification key
// The entropy is a constant: these keys protect nothing.

import { writeFileSync } from "node:fs";
import path from "node:path";
import * as snarkjs from "snarkjs";

const [curveName, r1cs, folder] = process.argv.slice(2);
if (folder === undefined) {
  console.error("usage: node ceremony.mjs bn128|bls12381 CIRCUIT.r1cs FOLDER");
  process.exit(2);
}
const file = (name) => path.join(folder, name);
const curve = await snarkjs.curves.getCurveFromName(curveName);

// 2^7: room for the small circuits of these tests, and a second of work.
await snarkjs.powersOfTau.newAccumulator(curve, 7, file("start.ptau"));
await snarkjs.powersOfTau.contribute(file("start.ptau"), file("contributed.ptau"), "test", "tau");
await snarkjs.powersOfTau.preparePhase2(file("contributed.ptau"), file("prepared.ptau"));
await snarkjs.zKey.newZKey(r1cs, file("prepared.ptau"), file("fresh.zkey"));
await snarkjs.zKey.contribute(file("fresh.zkey"), file("final.zkey"), "test", "delta");
const verificationKey = await snarkjs.zKey.exportVerificationKey(file("final.zkey"));
writeFileSync(file("final.vk.json"), JSON.stringify(verificationKey, null, 1));
process.exit(0);
