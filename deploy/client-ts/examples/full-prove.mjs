// A proof by calderad in place of snarkjs.groth16.fullProve, verified by snarkjs.
//
//   node full-prove.mjs INPUT.json CIRCUIT.wasm CIRCUIT.zkey
//
// CALDERA_URL, CALDERA_TENANT and CALDERA_SECRET_FILE say where and as whom.

import { readFileSync } from "node:fs";

import { Client, groth16 } from "caldera-client";
import { openFile, readSecret } from "caldera-client/node";
import * as snarkjs from "snarkjs";

const [input, wasm, zkey] = process.argv.slice(2);
const { CALDERA_URL: url, CALDERA_TENANT: tenant, CALDERA_SECRET_FILE: file } = process.env;
if (zkey === undefined || url === undefined || tenant === undefined || file === undefined) {
  console.error("usage: CALDERA_URL=.. CALDERA_TENANT=.. CALDERA_SECRET_FILE=.. node full-prove.mjs INPUT.json CIRCUIT.wasm CIRCUIT.zkey");
  process.exit(2);
}
const inputs = JSON.parse(readFileSync(input, "utf8"));

// Before:
//   const { proof, publicSignals } = await snarkjs.groth16.fullProve(inputs, wasm, zkey);
const client = new Client({ url, tenant, secret: await readSecret(file) });
const remote = groth16(client, snarkjs);
const { proof, publicSignals } = await remote.fullProve(inputs, wasm, await openFile(zkey));

const verificationKey = await snarkjs.zKey.exportVerificationKey(zkey);
const valid = await snarkjs.groth16.verify(verificationKey, publicSignals, proof);
console.log(JSON.stringify({ valid, publicSignals, proof }));
// snarkjs keeps worker threads alive; without this the process would never end.
process.exit(valid ? 0 : 1);
