// The calls of snarkjs's `groth16` that make proofs, made by calderad: the same names, what they
// are given and what they give in the same order. The witness is computed here, by snarkjs, which
// the caller hands in: this package depends on nothing.

import type { Client, SubmitOptions } from "./client.js";
import { CalderaError } from "./error.js";
import type { Digest, JobResult } from "./protocol.js";
import type { Content } from "./source.js";

/** What is needed of snarkjs (0.7, or what has the same call). */
export interface WitnessCalculator {
  wtns: {
    calculate(inputs: never, wasm: never, witness: { type: "mem"; data?: Uint8Array }): Promise<unknown>;
  };
}

/** A proof, as `snarkjs.groth16.verify` takes it. */
export interface Proven {
  proof: JobResult["proof"];
  publicSignals: string[];
}

/** snarkjs's names for it. */
export interface Groth16 {
  /** A proof from a witness. */
  prove(key: Content | Digest, witness: Content, options?: SubmitOptions): Promise<Proven>;
  /** A proof from the inputs of a circuit and its wasm, which is whatever snarkjs takes as one. */
  fullProve(
    inputs: Record<string, unknown>,
    wasm: unknown,
    key: Content | Digest,
    options?: SubmitOptions,
  ): Promise<Proven>;
}

/** The `groth16` of a service. A key is registered when it is first used; a digest alone is of one that is registered. */
export function groth16(client: Client, snarkjs: WitnessCalculator): Groth16 {
  const circuits = new WeakMap<Content, Promise<Digest>>();
  const circuitOf = (key: Content | Digest): Promise<Digest> => {
    if (typeof key === "string") {
      return Promise.resolve(key);
    }
    let circuit = circuits.get(key);
    if (circuit === undefined) {
      circuit = client.register(key).then((info) => info.circuit);
      circuits.set(key, circuit);
      // What failed is tried again with the next proof.
      circuit.catch(() => circuits.delete(key));
    }
    return circuit;
  };
  const prove: Groth16["prove"] = async (key, witness, options) => {
    const { proof, publicInputs } = await client.prove(await circuitOf(key), witness, options);
    return { proof, publicSignals: publicInputs };
  };
  return {
    prove,
    async fullProve(inputs, wasm, key, options) {
      const witness: { type: "mem"; data?: Uint8Array } = { type: "mem" };
      await snarkjs.wtns.calculate(inputs as never, wasm as never, witness);
      if (witness.data === undefined) {
        throw new CalderaError("snarkjs made no witness", { reason: "usage" });
      }
      return await prove(key, witness.data, options);
    },
  };
}
