// What circom's presentation.circom, compiled to FOLDER/presentation_js, says of many inputs.
//
//   node presentation.mjs FOLDER < CASES.json
//
// Standard input: [{signal: "decimal" | [..], ..}, ..]. Standard output, in the same order, the
// five public values of inputs that it accepts and null for those that it refuses. Anything but a
// refused assertion (a signal missing, say) ends the script.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const folder = path.resolve(process.argv[2], "presentation_js");
const require = createRequire(import.meta.url);
// The generated file is CommonJS, and no package.json around it may say otherwise.
const builder = require(path.join(folder, "witness_calculator.js"));
const wasm = readFileSync(path.join(folder, "presentation.wasm"));

const verdicts = [];
for (const input of JSON.parse(readFileSync(0, "utf8"))) {
  const calculator = await builder(wasm);
  try {
    const witness = await calculator.calculateWitness(input, 0);
    verdicts.push(witness.slice(1, 6).map(String));
  } catch (error) {
    if (!String(error).includes("Assert Failed")) throw error;
    verdicts.push(null);
  }
}
process.stdout.write(JSON.stringify(verdicts) + "\n", () => process.exit(0));
