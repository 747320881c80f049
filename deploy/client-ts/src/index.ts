// A client of calderad. The subjects:
//
// | file | |
// |---|---|
// | `client` | what can be asked of the service |
// | `groth16` | snarkjs's calls that make proofs |
// | `protocol` | what is sent and answered; generated |
// | `error` | why there is no result |
// | `token` | signs for a tenant |
// | `source`, `sha256` | what is uploaded, and its digest |
// | `wire`, `leash`, `events` | requests and when to try again; how long they may take; streams |
// | `node` | files; an entry of its own, which browsers do without |

export {
  Client,
  inline,
  type Call,
  type ClientOptions,
  type GivenToken,
  type JobEvent,
  type MethodName,
  type RegisterOptions,
  type Settled,
  type SubmitOptions,
  type UploadOptions,
} from "./client.js";
export { CalderaError, type ClientReason, type Reason, type ServiceHttpReason } from "./error.js";
export { groth16, type Groth16, type Proven, type WitnessCalculator } from "./groth16.js";
export type { Limits } from "./leash.js";
export * from "./protocol.js";
export { Sha256 } from "./sha256.js";
export type { Content, Source } from "./source.js";
export { parseSecret, sign, type Account } from "./token.js";
export { EventParser, type SentEvent } from "./events.js";
export type { Retry } from "./wire.js";
