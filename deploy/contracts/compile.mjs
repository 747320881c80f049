// Compiles Solidity by the pinned solc of deploy/tests/interop, with the settings that the gas
// table was measured with. Any warning is a failure, but with --mutants only an error is: what a line
// was taken out of may have a variable that nothing uses.
//
//   node compile.mjs [--mutants] < SOURCES.json
//
// Standard input: {"NAME.sol": "text", ..}. Standard output: for each file the contract that it
// defines, {"NAME.sol": {"code": hex, "runtimeBytes": n, "selectors": {"f(uint256)": hex}, "errors": ..}, ..}.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(new URL("../tests/interop/package.json", import.meta.url));
const solc = require("solc");

const texts = JSON.parse(readFileSync(0, "utf8"));
const output = JSON.parse(
  solc.compile(
    JSON.stringify({
      language: "Solidity",
      sources: Object.fromEntries(
        Object.entries(texts).map(([name, content]) => [name, { content }]),
      ),
      settings: {
        evmVersion: "cancun",
        optimizer: { enabled: true, runs: 1000000 },
        metadata: { appendCBOR: false, bytecodeHash: "none" },
        outputSelection: {
          "*": {
            "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.methodIdentifiers"],
          },
        },
      },
    }),
  ),
);
const mutants = process.argv.includes("--mutants");
const refusals = (output.errors ?? []).filter(({ severity }) => severity === "error" || !mutants);
for (const { formattedMessage } of refusals) {
  process.stderr.write(formattedMessage);
}
if (refusals.length > 0) {
  process.exit(1);
}
const result = {};
for (const [name, contracts] of Object.entries(output.contracts)) {
  // Interfaces have no code.
  const [contract, ...others] = Object.values(contracts).filter(({ evm }) => evm.bytecode.object);
  if (contract === undefined || others.length > 0) {
    process.stderr.write(`${name}: expected one contract, got ${contract ? others.length + 1 : 0}\n`);
    process.exit(1);
  }
  result[name] = {
    code: contract.evm.bytecode.object,
    runtimeBytes: contract.evm.deployedBytecode.object.length / 2,
    selectors: contract.evm.methodIdentifiers,
    errors: contract.abi.filter(({ type }) => type === "error"),
  };
}
process.stdout.write(JSON.stringify(result) + "\n");
