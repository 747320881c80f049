// Prints what `snarkjs zkey export soliditycalldata` prints, for many proofs in one process.
//
//   node calldata.mjs < CASES.json
//
// Standard input: [{"publicInputs": [..], "proof": ..}, ..]. Standard output: ["..", ..].

import { readFileSync } from "node:fs";
import * as snarkjs from "snarkjs";

const cases = JSON.parse(readFileSync(0, "utf8"));
const lines = [];
for (const { publicInputs, proof } of cases) {
  lines.push(await snarkjs.groth16.exportSolidityCallData(proof, publicInputs));
}
process.stdout.write(JSON.stringify(lines) + "\n", () => process.exit(0));
