// The calls of snarkjs's `groth16` that make proofs, made by calderad: the same names, what they
// are given and what they give in the same order. Where the circuit is registered with its witness
// program the service computes the witness, and is sent the inputs. Otherwise it is computed here, by
// snarkjs, which the caller hands in: this package depends on nothing.

import type { Client, RegisterOptions, SubmitOptions } from "./client.js";
import { CalderaError } from "./error.js";
import type { CircuitInfo, Digest, JobResult } from "./protocol.js";
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
  /**
   * A proof from the inputs of a circuit and its wasm, which is whatever snarkjs takes as one. The wasm is
   * not looked at if the circuit was registered with its witness program.
   */
  fullProve(
    inputs: Record<string, unknown>,
    wasm: unknown,
    key: Content | Digest,
    options?: SubmitOptions,
  ): Promise<Proven>;
}

/** A map of either kind. */
interface Memory<K, V> {
  get(key: K): V | undefined;
  set(key: K, value: V): unknown;
  delete(key: K): unknown;
}

/**
 * The `groth16` of a service. A key is registered when it is first used, with what `parts` say of it; a digest
 * alone is of one that is registered. Without snarkjs only circuits with a witness program are proved from inputs.
 */
export function groth16(
  client: Client,
  snarkjs?: WitnessCalculator,
  parts: Pick<RegisterOptions, "witnessProgram" | "r1cs"> = {},
): Groth16 {
  const circuits = new WeakMap<Content, Promise<CircuitInfo>>();
  const registered = new Map<Digest, Promise<CircuitInfo | undefined>>();
  const remembered = <K, V>(known: Memory<K, Promise<V>>, key: K, ask: () => Promise<V>): Promise<V> => {
    let answer = known.get(key);
    if (answer === undefined) {
      answer = ask();
      known.set(key, answer);
      // What failed, or is not there yet, is asked for again with the next proof.
      answer.then(
        (found) => found ?? known.delete(key),
        () => known.delete(key),
      );
    }
    return answer;
  };
  const register = (key: Content): Promise<CircuitInfo> =>
    remembered(circuits, key, () => client.register(key, parts));
  const circuitOf = async (key: Content | Digest): Promise<Digest> =>
    typeof key === "string" ? key : (await register(key)).circuit;
  const hasProgram = async (key: Content | Digest): Promise<boolean> => {
    const info =
      typeof key === "string"
        ? await remembered(registered, key, async () => {
            const circuits = await client.call("prover_listCircuitsV1", {});
            return circuits.find((it) => it.circuit === key);
          })
        : await register(key);
    return info?.witnessProgram !== undefined;
  };
  const prove: Groth16["prove"] = async (key, witness, options) => {
    const { proof, publicInputs } = await client.prove(await circuitOf(key), witness, options);
    return { proof, publicSignals: publicInputs };
  };
  return {
    prove,
    async fullProve(inputs, wasm, key, options) {
      if (await hasProgram(key)) {
        return await prove(key, new TextEncoder().encode(JSON.stringify(inputs, plain)), options);
      }
      if (snarkjs === undefined) {
        const message = "the circuit has no witness program, and there is no snarkjs to compute a witness";
        throw new CalderaError(message, { reason: "usage" });
      }
      const witness: { type: "mem"; data?: Uint8Array } = { type: "mem" };
      await snarkjs.wtns.calculate(inputs as never, wasm as never, witness);
      if (witness.data === undefined) {
        throw new CalderaError("snarkjs made no witness", { reason: "usage" });
      }
      return await prove(key, witness.data, options);
    },
  };
}

/** What JSON has no number or array for: snarkjs takes both as inputs. */
function plain(_: string, value: unknown): unknown {
  if (typeof value === "bigint") {
    return value.toString();
  }
  return ArrayBuffer.isView(value) ? Array.from(value as Uint8Array) : value;
}
