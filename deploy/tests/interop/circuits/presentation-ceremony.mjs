// A trusted setup by snarkjs for the circuit of presentations, as a real ceremony would go, with
// one contributor whose entropy is a constant: its keys protect nothing.
//
//   node presentation-ceremony.mjs CIRCUIT.r1cs FOLDER
//
// Writes FOLDER/final.zkey and FOLDER/final.vk.json.

import { writeFileSync } from "node:fs";
import path from "node:path";
import * as snarkjs from "snarkjs";

const [r1cs, folder] = process.argv.slice(2);
const file = (name) => path.join(folder, name);
const curve = await snarkjs.curves.getCurveFromName("bn128");

await snarkjs.powersOfTau.newAccumulator(curve, 14, file("start.ptau"));
await snarkjs.powersOfTau.contribute(file("start.ptau"), file("contributed.ptau"), "test", "tau");
await snarkjs.powersOfTau.preparePhase2(file("contributed.ptau"), file("prepared.ptau"));
await snarkjs.zKey.newZKey(r1cs, file("prepared.ptau"), file("fresh.zkey"));
await snarkjs.zKey.contribute(file("fresh.zkey"), file("final.zkey"), "test", "delta");
const verificationKey = await snarkjs.zKey.exportVerificationKey(file("final.zkey"));
writeFileSync(file("final.vk.json"), JSON.stringify(verificationKey));
process.exit(0);
