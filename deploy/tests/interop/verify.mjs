// Judges many Groth16 proofs in one process: starting node and loading snarkjs costs more
// than the verification.
//
//   node verify.mjs < CASES.json
//
// Standard input: [{"verificationKey": .., "publicInputs": [..], "proof": ..}, ..], each in
// snarkjs's own JSON. Standard output: [true | false, ..] in the same order.

import { readFileSync } from "node:fs";
import * as snarkjs from "snarkjs";

const cases = JSON.parse(readFileSync(0, "utf8"));
const verdicts = [];
for (const { verificationKey, publicInputs, proof } of cases) {
  verdicts.push(await snarkjs.groth16.verify(verificationKey, publicInputs, proof));
}
process.stdout.write(JSON.stringify(verdicts) + "\n", () => process.exit(0));
