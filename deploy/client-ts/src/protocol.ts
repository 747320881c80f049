// Generated from docs/openrpc.json by generate.mjs; do not edit.

/** The version of the protocol that these types are of. */
export const PROTOCOL_VERSION = "0.1.0";

/** SHA-256 of a blob's content, in lower-case hexadecimal. The digest of a proving key names its circuit. */
export type Digest = string;

/** The number of a job. */
export type JobName = string;

/** A name for people; no control characters. */
export type CircuitName = string;

/** Visible ASCII characters by which a tenant recognises its own submission. */
export type IdempotencyKey = string;

/** Bytes in base64 with padding. */
export type WitnessData = string;

/** full: every point of the key is shown to be on its curve and in its subgroup. trusted: the caller vouches for the digest. */
export type CheckLevel = "full" | "trusted";

/** The curve, by the name that snarkjs writes into its files. */
export type CurveName = "bn128" | "bls12381";

/** checking: being checked and laid out. ready: proofs can be made. failed: unfit. */
export type CircuitState = "checking" | "ready" | "failed";

/** queued: admitted. preparing: its witness is being read. running: cores work on it. proved, failed, cancelled: it has ended. */
export type JobState = "queued" | "preparing" | "running" | "proved" | "failed" | "cancelled";

/** Why a circuit or a job failed. */
export interface JobError {
  /** The code that the same error has as an answer. */
  code: number;
  /** The stable name that programs match on. */
  reason: string;
  /** For people. */
  message: string;
}

/** A registered circuit. */
export interface CircuitInfo {
  /** The digest of its proving key. */
  circuit: Digest;
  /** The name that its tenant gave it. */
  name: CircuitName | null;
  /** The curve of its key. */
  curve: CurveName;
  /** Points of the evaluation domain, a power of two. */
  domainSize: number;
  /** Public inputs, the constant one not counted. */
  publicCount: number;
  /** Wires, the constant one counted: the length of a witness. */
  wires: number;
  /** Size of the key. */
  bytes: number;
  /** Where it stands. */
  state: CircuitState;
  /** Whether its key is on the box. One that was given back is read again when a job for it comes. */
  resident: boolean;
  /** Where the key can be read again. */
  source?: string;
  /** The blob of its witness program, if it has one: then jobs may bring inputs. */
  witnessProgram?: Digest;
  /** The blob of its constraints, if it was registered with them. */
  r1cs?: Digest;
  /** Why it failed, or why its key could not be read again. */
  error?: JobError;
  /** Whether the key is a development key, with which proofs can be forged. */
  development: boolean;
  /** The verification key as snarkjs writes it; present when the circuit is ready. */
  verificationKey?: Record<string, unknown>;
}

/** What became of it. */
export interface Unregistered {
  /** Whether it had been registered. */
  removed: boolean;
}

/** What a proof costs now. */
export interface Estimate {
  /** How long one proof takes on the cores that the tenant would get. */
  proofMs: number;
  /** When a proof that is submitted now would be ready at the earliest, from now. */
  earliestFinishMs: number;
  /** Jobs of this tenant that wait. */
  queueLength: number;
  /** What one proof takes on one core, all its quanta together. */
  coreMs: number;
  /** Whether that is known from proofs; until there was one it is guessed from the size. */
  measured: boolean;
}

/** A job and where it stands. */
export interface JobStatus {
  /** Its name. */
  job: JobName;
  /** The circuit that it proves. */
  circuit: Digest;
  /** Where it stands. */
  state: JobState;
  /** The part of its work that is done. */
  progress: number;
  /** When it was received: Unix time in milliseconds. */
  submittedMs: number;
  /** The deadline that was asked for, from receipt. */
  deadlineMs?: number;
  /** When a core first worked on it, from receipt. */
  startedMs?: number;
  /** When it ended, from receipt. */
  finishedMs?: number;
  /** Whether it ended after its deadline; absent until it has ended and where there is none. */
  late?: boolean;
  /** Why it failed. */
  error?: JobError;
}

/** What one kernel of a proof cost. */
export interface StageTiming {
  /** The kernel. */
  kernel: string;
  /** Quanta that it was cut into. */
  quanta: number;
  /** Their time on cores, summed; of quanta on a device, while the thread on the host that serves it ran. */
  cpuMs: number;
  /** Their time on devices, summed, if any ran there. */
  deviceMs?: number;
  /** The longest of them. */
  maxQuantumUs: number;
}

/** What one core did for a proof. */
export interface CoreShare {
  /** The core, by the kernel's number. */
  core: number;
  /** Quanta that it ran. */
  quanta: number;
  /** Their time, summed. */
  cpuMs: number;
}

/** Where the time of a job went. */
export interface Timings {
  /** From receipt to the first touch. */
  queuedMs: number;
  /** Reading the witness and laying out the work. */
  preparedMs: number;
  /** From the first quantum to the checked proof. */
  provedMs: number;
  /** Computing the witness from inputs, all slices summed; part of preparedMs. Absent where a witness was brought. */
  witnessMs?: number;
  /** What each kernel cost. */
  stages: StageTiming[];
  /** Which cores worked. */
  cores: CoreShare[];
}

/** A proof, checked by a second verifier before it left the box. */
export interface JobResult {
  /** The job. */
  job: JobName;
  /** The proof as snarkjs writes it. */
  proof: Record<string, unknown>;
  /** The public inputs as decimal strings, as snarkjs writes them. */
  publicInputs: string[];
  /** Arguments for a Solidity verifier, as snarkjs zkey export soliditycalldata prints them. */
  calldata: string;
  /** Where the time went. */
  timings: Timings;
  /** Whether it came after its deadline. */
  late: boolean;
}

/** One unit of the pool: a pinned worker, or a device. */
export interface UnitStatus {
  /** Its number in the pool. */
  unit: number;
  /** The core that it is pinned to; of a device, the first one of its thread on the host. */
  core: number;
  /** The device's name, if the unit is one and not a core. */
  device?: string;
  /** The kernel's number of its thread. */
  threadId: number;
  /** Who holds it; null for nobody and for a tenant that the caller may not see. */
  owner: string | null;
  /** Whether a tenant holds it that the caller may not see. */
  foreign: boolean;
  /** Counts the changes of its owner. */
  epoch: number;
  /** The job that it works on, if the caller may see it. */
  job?: JobName;
  /** How long this owner has held it. */
  sinceMs: number;
  /** Whether its worker had something to run at its last look, if the caller may see the owner. */
  busy?: boolean;
  /** The scheduling policy of its thread. */
  policy: string;
  /** The NUMA node that it lies on, where that is known. */
  numaNode?: number;
  /** Of a device: bytes of its memory that keys may have, where its driver says how much there is. */
  memoryBytes?: number;
  /** Of a device, for the operator: bytes of keys that are on it. */
  keyBytes?: number;
  /** The same of the tables of those keys, in what the keys leave. */
  tableBytes?: number;
}

/** A driver or a library that a device runs on. */
export interface DeviceSoftware {
  /** Its name, or where it lies. */
  name: string;
  /** Its version, or its SHA-256 if it knows none. */
  version: string;
}

/** What computes: the processor, or a device beside it. */
export interface DeviceStatus {
  /** cpu, or what drives a GPU. */
  kind: string;
  /** The silicon's own name; of a device that was not there at the start, the one in the configuration. */
  name: string;
  /** For the operator: its address on the PCI bus, as lspci -D shows it, where its driver says it. */
  pci?: string;
  /** For the operator: what its maker's tools call this one. */
  uuid?: string;
  /** Why it was given up, or is not there, if so; others do its work since. */
  lost?: string;
  /** Pieces of work that the processor or another device did in its place. */
  fallenBack: number;
  /** Drivers and libraries that it runs on, for the operator. */
  software: DeviceSoftware[];
}

/** One tenant of the pool. */
export interface TenantStatus {
  /** Its name; null for a tenant that the caller may not see. */
  tenant: string | null;
  /** Whether it is one that the caller may not see. */
  foreign: boolean;
  /** Its scenario class; null for a tenant that the caller may not see. */
  scenario: string | null;
  /** Jobs that wait. */
  queued: number;
  /** Jobs that run. */
  running: number;
  /** Cores that it holds. */
  cores: number;
  /** Cores that it has declared that it will want. */
  declared: number;
  /** Whether its measured demand is at a peak. */
  peak: boolean;
  detail?: TenantDetail;
}

/** One core that changed hands. */
export interface Reallocation {
  /** The unit. */
  unit: number;
  /** Who held it; null for nobody and for a tenant that the caller may not see. */
  from: string | null;
  /** Who holds it now; null as in from. */
  to: string | null;
  /** Whether one of the two is a tenant that the caller may not see. */
  foreign: boolean;
  /** What caused it: demand, declared, measured, release, turn, ageing or overrun. */
  cause: string;
  /** Whether the new owner had nothing to run at the first look. */
  empty: boolean;
  /** From the demand to the arbiter's knowledge of it. */
  detectUs: number;
  /** From there to the decision. */
  decideUs: number;
  /** From there to the end of the quantum that was running. */
  drainUs: number;
  /** From there to the new owner's first instruction. */
  firstUs: number;
  /** All of it. */
  totalUs: number;
}

/** Those of all changes of hands that went to a tenant that had nothing to run at the first look, as with demand that was only declared. */
export interface EmptyReallocations {
  /** How many. */
  count: number;
  /** Half of them took at most so long. */
  p50Us: number;
  /** 99 in 100 took at most so long. */
  p99Us: number;
  /** The longest. */
  maxUs: number;
}

/** How cores changed hands since the start of the box. */
export interface Reallocations {
  /** How many. */
  count: number;
  /** How many took longer than their limit. */
  missed: number;
  /** Half of them took at most so long. */
  p50Us: number;
  /** 99 in 100 took at most so long. */
  p99Us: number;
  /** The longest. */
  maxUs: number;
  empty: EmptyReallocations;
  /** The newest, last one last. */
  recent: Reallocation[];
  /** The newest of those that took longer than their limit, last one last. */
  misses: Reallocation[];
  /** By cause; for the operator, and empty for tenants. */
  causes: CauseSpans[];
}

/** How long quanta took since the start of the box. */
export interface Quanta {
  /** How many. */
  count: number;
  /** Half of them took at most so long. */
  p50Us: number;
  /** 99 in 100 took at most so long. */
  p99Us: number;
  /** The longest. */
  maxUs: number;
  /** How many took longer than they may. */
  overBudget: number;
}

/** Who holds which core. A tenant reads its own name, and null beside foreign: true in the place of any other's; the operator reads all names. */
export interface PoolStatus {
  /** One a worker. */
  units: UnitStatus[];
  /** One a tenant. */
  tenants: TenantStatus[];
  /** What computes: the processor, and then each unit that is a device, in their order. */
  devices: DeviceStatus[];
  /** How cores changed hands. */
  reallocations: Reallocations;
  /** How long quanta took. */
  quanta: Quanta;
  /** How long the box has been up. */
  upMs: number;
}

/** What is declared now. */
export interface Demand {
  /** How many cores. */
  units: number;
  /** For how long, from receipt; 0 if none are. */
  expiresMs: number;
}

/** How long reallocations of one cause took since the start of the box, as a whole or in one part. */
export interface SpanHistogram {
  /** What changed hands: core, device. */
  resource: string;
  /** What caused it. */
  cause: string;
  /** total, or the part of it: detect, decide, drain, first. */
  part: string;
  /** How many. */
  count: number;
  /** Their mean. */
  meanUs: number;
  /** Half of them took at most so long. */
  p50Us: number;
  /** 99 in 100 took at most so long. */
  p99Us: number;
  /** 999 in 1,000 took at most so long. */
  p999Us: number;
  /** The longest. */
  maxUs: number;
  /** All of it, as the percentile text of HdrHistogram, in microseconds. */
  hgrm: string;
}

/** A worker of a profile. */
export interface ProfiledUnit {
  /** Its number in the pool. */
  unit: number;
  /** The core that it is pinned to; of a device, the first one of its thread on the host. */
  core: number;
  /** The device's name, if the unit is one and not a core. */
  device?: string;
}

/** What some quanta of a profile are of. */
export interface ProfiledStage {
  /** The part of the proof: msm-a, shift-c. Its stages follow one another. */
  part: string;
  /** What runs: msm.accumulate, ntt.forward. */
  kernel: string;
  /** Elements that the part goes over: points, entries of a matrix, elements of a vector; 0 where there is nothing to count. */
  size: number;
  /** Bytes of the vectors, points and entries that the part reads or writes. */
  bytes: number;
  /** Of a sum: bytes of the tables of its points, 0 if it was laid out without. */
  tableBytes?: number;
}

/** One quantum of a profile. */
export interface ProfiledQuantum {
  /** The worker that ran it. */
  unit: number;
  /** Its place in stages. */
  stage: number;
  /** The lane of the stage. */
  lane: number;
  /** When it began. */
  startUs: number;
  /** How long it took. */
  spanUs: number;
  /** How long its thread ran meanwhile; the rest went to other threads of that core. */
  cpuUs: number;
}

/** A core that came to a job's tenant, or left it. */
export interface ProfiledReallocation {
  /** When the new owner's first instruction came. */
  atUs: number;
  reallocation: Reallocation;
}

/** The quanta of a job, one by one, as far as they are still kept. Times are counted from the job's receipt. */
export interface JobProfile {
  status: JobStatus;
  /** When a thread began to lay it out. */
  preparingUs?: number;
  /** When it was laid out. */
  preparedUs?: number;
  /** All workers of the box. */
  units: ProfiledUnit[];
  /** What its quanta are of. */
  stages: ProfiledStage[];
  /** How many quanta it has had. */
  total: number;
  /** How many of them are not kept any more. */
  lost: number;
  /** The others, or about a thousand of them from where the call asked on; those of one worker in order. */
  quanta: ProfiledQuantum[];
  /** Where to go on, if there are more. */
  next?: number;
  /** Cores that came to its tenant, or left it, while it was there; only in the first answer. */
  reallocations: ProfiledReallocation[];
}

/** What a tenant and the operator are told of it. */
export interface TenantDetail {
  /** Those of its waiting jobs whose witness is being read. */
  preparing: number;
  /** Cores that it wants now. */
  wants: number;
  /** Whether it lends what it does not keep busy, because others want more than there is. */
  lends: boolean;
  /** What its class is guaranteed, in percent of the box. */
  guaranteePercent: number;
  /** How long cores have worked for it since the start of the box. */
  coreMs: number;
  /** Bytes of its keys on devices. */
  deviceBytes: number;
  /** Bytes of memory that its jobs under way hold: witnesses and vectors. */
  jobBytes: number;
  /** Of its first job with a deadline: what is left until then, less the time that it still needs on all the cores that the tenant may have. Below zero it will be late. */
  slackMs?: number;
}

/** How long reallocations of one cause took since the start of the box. */
export interface CauseSpans {
  /** What changed hands: core, device. */
  resource: string;
  /** What caused it. */
  cause: string;
  /** How many. */
  count: number;
  /** How many took longer than their limit. */
  missed: number;
  /** Half of them took at most so long. */
  p50Us: number;
  /** 99 in 100 took at most so long. */
  p99Us: number;
  /** 999 in 1,000 took at most so long. */
  p999Us: number;
  /** The longest. */
  maxUs: number;
}

/** What one tenant holds. */
export interface TenantStorage {
  /** Its name. */
  tenant: string;
  /** Its scenario class. */
  scenario: string;
  /** Tables of its keys, in memory. */
  tablesBytes: number;
  /** Keys of its circuits: files, mapped. */
  keysBytes: number;
  /** Its other blobs. */
  blobsBytes: number;
  /** Whether it is quiet and has given back. */
  quiet: boolean;
  /** When it will give back if nothing comes from it, from now; absent if it will not. */
  dueMs?: number;
}

/** What one tenant has given back at a time. Times are Unix time in milliseconds. */
export interface StorageRelease {
  /** Its number on this box. */
  release: number;
  /** Whose storage it was. */
  tenant: string;
  /** Its scenario class. */
  scenario: string;
  /** When the last of it was back. */
  atMs: number;
  /** Since when demand had been low. */
  quietSinceMs: number;
  /** What the tenant held before. */
  heldBytes: number;
  /** Tables that are back. */
  tablesBytes: number;
  /** Keys that are back. */
  keysBytes: number;
  /** Other blobs that are back. */
  blobsBytes: number;
  /** How much less that is than it should be. */
  shortBytes: number;
  /** Why it is; absent if it is not. */
  shortReason?: string;
  /** When the tenant's demand returned; absent while it has not. */
  takenAgainMs?: number;
}

/** What tenants hold, and what was given back. A tenant reads of itself, the operator of all. */
export interface StorageStatus {
  /** What each holds. */
  tenants: TenantStorage[];
  /** What was given back: the newest, last one last. */
  releases: StorageRelease[];
}

/** A number of 32 bytes, the highest first. */
export type Word = string;

/** Who takes part: an account on a chain, or on a box a tenant, the last 20 bytes of the Keccak-256 hash of `caldera tenant v1 NAME`. */
export type Address = string;

/** What a party is. */
export type EraRole = "node" | "developer" | "user";

/** Of what an amount is. */
export type EraAsset = "era" | "gas";

export interface EraReceipt {
  /** The number of the record. */
  record: number;
  /** Whether it had been there before. */
  repeated: boolean;
  moved?: Amount;
  staked?: Amount;
  charged?: Amount;
  reimbursed?: Amount;
  /** The party that was registered. */
  party?: number;
  root?: Digest;
  reason?: Digest;
}

export interface EraAccount {
  /** Its number. */
  party: number;
  /** The tenant that it is; none is the box's own node. */
  tenant?: string;
  role: EraRole;
  /** Who is behind it. */
  owner: number;
  /** Whether it is known who that is. */
  verified: boolean;
  address: Address;
  /** Whether a part of every claim is staked. */
  standing: boolean;
  free: Amount;
  held: Amount;
  staked: Amount;
  unbonding: Amount;
  payable: Amount;
  gas: Amount;
  /** What payable is made of. */
  payouts: EraPayout[];
  /** What staked is made of. */
  stakes: EraStake[];
  /** What unbonding is made of. */
  unbondings: EraUnbonding[];
}

export interface EraPayout {
  /** Which epoch. */
  epoch: number;
  amount: Amount;
  /** From when on it can be claimed. */
  maturesAt: number;
}

export interface EraStake {
  id: EraId;
  amount: Amount;
  earned: Amount;
  /** It cannot end before. */
  lockedUntil: number;
}

export interface EraUnbonding {
  id: EraId;
  amount: Amount;
  /** When it is free. */
  dueAt: number;
}

export interface EraStatement {
  /** Whose. */
  party: number;
  /** What changed. */
  lines: EraLine[];
  /** From which record on there is more. */
  next?: number;
}

export interface EraLine {
  /** The record. */
  record: number;
  /** Its time. */
  at: number;
  /** What was asked. */
  what: string;
  /** free, held, staked, unbonding, payable or gas. */
  purse: string;
  change: Change;
  balance: Change;
}

export interface EraExplanation {
  /** Whose. */
  party: number;
  /** Of which epoch. */
  epoch: number;
  policy: Digest;
  amount: Amount;
  /** Nodes, developers, users, storage. */
  streams: EraStream[];
  /** The events that it came from. */
  events: EraEvent[];
  /** The record that closed the epoch. */
  closedBy: number;
  root: Digest;
  /** The payout's place among them; none is nothing paid. */
  index?: number;
  /** The path that leads from the payout to the root, from the bottom up. */
  path: Digest[];
}

export interface EraStream {
  /** nodes, developers, users or storage. */
  stream: string;
  budget: Amount;
  paid: Amount;
  weights: Amount;
  weight: Amount;
  work: Amount;
  /** Of nodes by their success, of developers by their tier, in basis points; of others 1. The weight is work times factor. */
  factor?: number;
  /** Proofs and reuses of the nodes of its owner, in the two windows that count. */
  successes?: number;
  /** Failures that were theirs, in the same. */
  failures?: number;
  /** Of a developer, the different scenarios of verified owners in the last month. */
  scenarios?: number;
  amount: Amount;
}

export interface EraEvent {
  /** The record. */
  record: number;
  /** Who. */
  node: number;
  /** Its own number of the event. */
  sequence: number;
  /** When, by its own clock. */
  observedAt: number;
  /** proof, reuse, release or failure. */
  what: string;
  fee?: Amount;
  /** The class of the job. */
  class?: string;
}

export interface EraPolicy {
  /** The open epoch. */
  epoch: number;
  hash: Digest;
  /** Its figures, as in deploy/era.toml. */
  policy: Record<string, unknown>;
}

export interface EraEpochs {
  /** The open one. */
  open: number;
  /** When it can be closed. */
  closesAt: number;
  fees: Amount;
  budget: Amount;
  /** Those that were closed, the newest last: 64 at most. */
  closed: EraEpoch[];
}

export interface EraEpoch {
  /** Which. */
  epoch: number;
  /** When it was closed. */
  at: number;
  policy: Digest;
  /** Its first record. */
  first: number;
  /** The record of the close. */
  last: number;
  root: Digest;
  /** How many there are. */
  payouts: number;
  fees: Amount;
  issued: Amount;
  budget: Amount;
  nodes: Amount;
  developers: Amount;
  users: Amount;
  dust: Amount;
  carried: Amount;
  storage: Amount;
  staking: Amount;
  shortfall: Amount;
  state: Digest;
}

export interface EraRetention {
  /** The month of the newest record, which is not over. */
  month: number;
  /** What is counted, cohort by cohort. */
  groups: EraKept[];
}

export interface EraKept {
  /** The month of their first activity. */
  cohort: number;
  /** The month. */
  month: number;
  /** Whether they had claimed something in it. */
  rewarded: boolean;
  /** How many were active: n. */
  active: number;
  /** How many of them were active in the next, too. */
  kept: number;
  /** The rate's interval of 95 %, from. */
  low: number;
  /** To. */
  high: number;
}

export interface EraLeg {
  asset: EraAsset;
  /** From where: outside, treasury, gasFloat, or the number of a party. */
  from: string;
  /** To where: one of those, stakingPool, storageFund or budget. */
  to: string;
  amount: Amount;
}

/** A link of a grant's chain. */
export type Link = string;

/** What a verifier asks. Its verifier is whoever opens it. */
export interface RequestTerms {
  /** Name of the schema of the unit. */
  schema: string;
  scope: ScopeTerms;
  /** The second at which the unit must be valid. */
  validThrough: number;
  /** How many presentations one holder may make in the scope. */
  presentations: number;
  /** What claims have to be within. */
  bounds: BoundTerms[];
  set?: SetTerms | undefined;
}

/** Where presentations are counted, beside the verifier. */
export interface ScopeTerms {
  /** Name of the scenario. */
  scenario: string;
  /** For what. */
  purpose: string;
  /** The period after which presentations are counted afresh. */
  epoch: number;
}

/** What a claim has to be within, both ends included. */
export interface BoundTerms {
  /** Name of the claim in the schema. */
  claim: string;
  /** The least, in decimal; 0 if left out. */
  least?: string;
  /** The greatest, in decimal; 2^64 - 1 if left out. */
  greatest?: string;
}

/** What a claim has to be one of. */
export interface SetTerms {
  /** Name of the claim in the schema. */
  claim: string;
  /** The values, in decimal. */
  values: string[];
}

/** What a holder allows; the domain of the registry belongs to it too. */
export interface GrantTerms {
  verifier: Address;
  sender: Address;
  request: Word;
  tip: Link;
  /** How often it may be used after the presentation. */
  uses: number;
  /** The first second at which it is not good any more. */
  expiry: number;
  challenge: Word;
}

/** Where the registry of state units stands, as the caller may see it. */
export interface StateInfo {
  domain: Word;
  address?: Address;
  issuersRoot?: Word;
  revocationRoot?: Word;
  /** For how long a root is taken after it was replaced. */
  windowSeconds: number;
  request?: RequestInfo;
  presentation?: PresentationInfo;
}

/** A request that is open. */
export interface RequestInfo {
  request: Word;
  /** The first second at which nothing more is taken for it. */
  closes: number;
}

/** A presentation that is recorded. */
export interface PresentationInfo {
  grant: Word;
  verifier: Address;
  sender: Address;
  request: Word;
  link: Link;
  /** Uses that are left. */
  remaining: number;
  /** The first second at which it is not good any more. */
  expiry: number;
}

/** What a tenant may do: read shows its circuits, jobs and results and the pool; submit uploads, registers, submits, cancels, declares, and removes again. */
export type Scope = "read" | "submit";

/** How much a tenant may have. What is left out is bounded by its class and the box alone. */
export interface Quotas {
  /** Unfinished jobs. */
  queue?: number | undefined;
  /** Of those, jobs that are prepared or proved at once; the others wait in the queue. */
  running?: number | undefined;
  /** Requests under way: calls that wait, uploads, streams. */
  calls?: number | undefined;
  /** Bytes of all its blobs. */
  blobBytes?: number | undefined;
  /** Requests a second. */
  requests?: number | undefined;
}

/** configured: it stands in the configuration, which alone can change it. active, suspended: it was added. removed: what it had is erased at the next start. unconfigured: the store has something of a tenant that nobody has named since the start. */
export type TenantState = "configured" | "active" | "suspended" | "removed" | "unconfigured";

export interface TenantInfo {
  tenant: string;
  state: TenantState;
  scenario?: string;
  scopes: Scope[];
  quotas: Quotas;
  /** Until when its secret before is taken too, in Unix time in milliseconds. */
  oldUntilMs?: number;
}

export interface TenantSecret {
  tenant: string;
  /** 64 hexadecimal digits, told once. */
  secret: string;
  /** Until when its secret before is taken too, in Unix time in milliseconds. */
  oldUntilMs?: number;
}

/** Units, in decimal digits. */
export type Amount = string;

/** A change of a balance, in units. */
export type Change = string;

/** Names a command, and what it makes. */
export type EraId = string;

/** What is lent from now on, and what no more. */
export interface FleetTaken {
  /** Jobs that are lent from now on. */
  jobs: LentJob[];
  /** What is lent no more, for a reason that the fleet did not give. */
  withdrawn: LentName[];
  /** For the next call. */
  cursor: number;
}

/** All that is lent. */
export interface FleetHeld {
  /** All that are lent. */
  jobs: LentJob[];
  /** For fleet_takeV1: what is withdrawn from now on is after it. */
  cursor: number;
}

/** It is on the disk. */
export interface FleetDone {
  job: JobName;
}

/** A job that another box is to prove. */
export interface LentJob {
  job: JobName;
  /** What its result is to name. */
  fence: number;
  /** The scenario of its tenant. */
  tenantClass: string;
  circuit: LentCircuit;
  witness: LentWitness;
  /** What a proof takes on one core of this box, if that was ever measured. */
  workMs: number | null;
  /** What is left until its deadline, from the answer; 0 if that has passed. */
  dueMs: number | null;
  /** What may be paid for a second of a core. */
  priceMax: number;
}

/** The proving key of a job that is lent. */
export interface LentCircuit {
  digest: Digest;
  /** The length of the key. */
  bytes: number;
  curve: CurveName;
}

/** The witness of a job that is lent. */
export interface LentWitness {
  digest: Digest;
  /** Its length. */
  bytes: number;
}

/** One lending of a job. */
export interface LentName {
  job: JobName;
  /** Under which it was lent. */
  fence: number;
}

/** A node's public key (Ed25519, RFC 8032). */
export type PublicKey = string;

/** Names a node, and its box in a fleet: the first 16 bytes of the SHA-256 of its public key. */
export type NodeName = string;

/** A signature by a node's key. */
export type Signature = string;

/** What a proof earns the node that makes it, in the ledger of the box whose job it is: with the digest of the proof and the time this is a metering event (ledger.md). */
export interface Bill {
  /** Which party the lender is there. */
  node: number;
  /** The number of the event: that of the record which set aside what is held for the job. */
  sequence: number;
  hold: EraId;
  /** The class of its scenario. */
  class: number;
  /** The developer who earns by it. */
  developer?: number | undefined;
  fee: Amount;
}

/** What a metering event has beside a Bill and the digest of the proof. */
export interface Metered {
  /** Whose it is: its party in the ledger that pays. */
  node: number;
  /** When it was signed, in seconds of Unix time. */
  observed: number;
  signature: Signature;
}

/** What the lender is to sign; null if the job costs nothing, or the lender is no node of the ledger. */
export interface FleetBill {
  bill: Bill | null;
}

/** The event's signature; null if this box has no node key. */
export interface FleetMetered {
  metered: Metered | null;
}

/**
 * What can be called. Any method may also answer with a reason that has to do with no method of its
 * own: parse, invalidRequest, methodNotFound, invalidParams, internal, and those of a quota.
 */
export interface Methods {
  /** Registers a proving key that was uploaded as a blob. Registering again what is registered answers with what is there. The answer comes at once; poll prover_listCircuitsV1 until the state is ready, or failed with what the check of the points has found. A witness program is translated then too. */
  "prover_registerCircuitV1": {
    params: {
      /** The blob that holds the proving key. */
      zkey: Digest;
      /** A name for people. */
      name?: CircuitName | undefined;
      /** How much to check; full by default. */
      check?: CheckLevel | undefined;
      /** A file on the box from which the key can be read again, below a folder that its operator lists for that. With one the key can be given back while the tenant is quiet. */
      source?: string | undefined;
      /** The blob that holds circom's witness program (.wasm), uploaded before. With one a job may bring inputs instead of a witness. */
      witnessProgram?: Digest | undefined;
      /** The blob that holds the circuit's constraints (.r1cs), uploaded before; only beside witnessProgram. Each witness that the program computes is held against them, and a constraint that does not hold is named by its number. */
      r1cs?: Digest | undefined;
    };
    result: CircuitInfo;
    refusals: "blobUnknown" | "keyFormat" | "keyTruncated" | "keyTrailing" | "keySectionMissing" | "keySectionTwice" | "keySectionLength" | "keyField" | "keyNoContribution" | "keyContent" | "developmentKey" | "quotaExceeded" | "storageFull" | "stopping" | "keySource" | "storageUnavailable";
  };
  /** The circuits of the caller. */
  "prover_listCircuitsV1": {
    params: Record<string, never>;
    result: CircuitInfo[];
    refusals: never;
  };
  /** Takes a circuit off the list. Its key stays until the blob is deleted. */
  "prover_unregisterCircuitV1": {
    params: {
      /** The digest of its proving key. */
      circuit: Digest;
    };
    result: Unregistered;
    refusals: "circuitInUse";
  };
  /** What a proof of a circuit would cost now. */
  "prover_estimateV1": {
    params: {
      /** The digest of its proving key. */
      circuit: Digest;
    };
    result: Estimate;
    refusals: "circuitUnknown" | "circuitNotReady" | "boxQueueFull";
  };
  /** Asks for a proof. Answers when the job has a place in the queue. */
  "prover_submitV1": {
    params: {
      /** The digest of the circuit's proving key. */
      circuit: Digest;
      /** The digest of the witness: of a blob, uploaded before, or of witnessData. Where the circuit has a witness program either may hold inputs instead, as JSON. Needed unless inputs are given. */
      witness?: Digest | undefined;
      /** The witness itself, of at most 65,536 bytes, in base64 with padding. */
      witnessData?: WitnessData | undefined;
      /** The inputs of the circuit by signal, in place of a witness, for a circuit with a witness program: whole numbers of at most 64 bits, strings of decimal digits or of hexadecimal ones after 0x, truth values, and arrays of those. At most 65,536 bytes; longer ones are uploaded as a blob. */
      inputs?: Record<string, unknown> | undefined;
      /** When the proof is needed, in milliseconds from receipt. Refused with deadlineUnmeetable if the tenant cannot count on that; a proof of what was accepted that comes after it is kept and marked late. */
      deadlineMs?: number | undefined;
      /** Sending the same submission again with the same key answers with the same job. */
      idempotencyKey?: IdempotencyKey | undefined;
    };
    result: JobStatus;
    refusals: "circuitUnknown" | "circuitNotReady" | "blobUnknown" | "witnessProgramMissing" | "tenantQueueFull" | "boxQueueFull" | "deadlineUnmeetable" | "idempotencyConflict" | "stopping" | "storageUnavailable";
  };
  /** Where a job stands. */
  "prover_statusV1": {
    params: {
      /** The job, as prover_submitV1 named it. */
      job: JobName;
      /** Answer when the job has ended, or after so many milliseconds, at most the box's limit; at once by default. */
      waitMs?: number | undefined;
    };
    result: JobStatus;
    refusals: "jobUnknown" | "accessEnded";
  };
  /** The proof of a job that is proved. */
  "prover_resultV1": {
    params: {
      /** The job, as prover_submitV1 named it. */
      job: JobName;
      /** Answer when the job has ended, or after so many milliseconds, at most the box's limit; at once by default. */
      waitMs?: number | undefined;
    };
    result: JobResult;
    refusals: "jobUnknown" | "accessEnded" | "jobNotFinished" | "jobCancelled" | "witnessFormat" | "witnessTruncated" | "witnessTrailing" | "witnessSectionMissing" | "witnessSectionTwice" | "witnessSectionLength" | "witnessField" | "witnessLength" | "witnessRange" | "witnessContent" | "selfCheckFailed" | "blobUnknown" | "keySource";
  };
  /** Cancels a job. One that has ended stays as it is. */
  "prover_cancelV1": {
    params: {
      /** The job, as prover_submitV1 named it. */
      job: JobName;
    };
    result: JobStatus;
    refusals: "jobUnknown";
  };
  /** Which quanta a job had, when and on which worker, as far as the box still keeps them; about a thousand at a time. */
  "prover_profileV1": {
    params: {
      /** The job, as prover_submitV1 named it. */
      job: JobName;
      /** Where to go on: next of the answer before; at the beginning by default. */
      from?: number | undefined;
    };
    result: JobProfile;
    refusals: "jobUnknown" | "profileUnavailable" | "boxQueueFull";
  };
  /** Who holds which core, and how cores changed hands. */
  "pool_statusV1": {
    params: Record<string, never>;
    result: PoolStatus;
    refusals: "boxQueueFull";
  };
  /** Announces how many cores the tenant will want and for how long, so that they are there before its work is. What is declared takes the place of what was declared before, and ends by itself. */
  "pool_demandV1": {
    params: {
      /** How many cores, at most as many as the tenant may hold; 0 withdraws what was declared. */
      units: number;
      /** For how long, in milliseconds from receipt. Needed for all but 0 units. */
      durationMs?: number | undefined;
    };
    result: Demand;
    refusals: "demandAboveCeiling" | "demandDuration" | "boxQueueFull" | "stopping";
  };
  /** How long cores took to change hands, by cause and by part of the way, as histograms. For the operator. */
  "pool_histogramsV1": {
    params: {
      /** Only reallocations of this cause, as pool_statusV1 names causes; all by default. */
      cause?: "demand" | "declared" | "measured" | "release" | "turn" | "ageing" | "overrun" | undefined;
    };
    result: SpanHistogram[];
    refusals: "boxQueueFull";
  };
  /** What a tenant holds of the box's storage, and what it has given back while it was quiet. A tenant reads of itself, the operator of all. */
  "pool_storageV1": {
    params: Record<string, never>;
    result: StorageStatus;
    refusals: never;
  };
  /** Parties, and what they have: those that the tenant is; for the operator, all. */
  "era_accountV1": {
    params: {
      /** Which; without it all that the caller may see. */
      party?: number | undefined;
    };
    result: EraAccount[];
    refusals: "eraUnknownParty" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Adopts a policy from a later epoch on. For the operator. */
  "era_adoptV1": {
    params: {
      /** Names the command. */
      id: EraId;
      /** From which epoch on. */
      epoch: number;
      /** The text of the policy, in TOML. */
      policy: string;
    };
    result: EraReceipt;
    refusals: "eraPolicy" | "eraClosedEpoch" | "eraConflict" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Takes payouts that have matured, or what a stake has earned, or an unbonding that is due. */
  "era_claimV1": {
    params: {
      /** Names the command. */
      id: EraId;
      /** For whom. */
      party: number;
      /** The last epoch of which payouts are claimed; all, without it. */
      upTo?: number | undefined;
      /** In place of payouts: what this stake has earned. */
      stake?: EraId | undefined;
      /** In place of payouts: this unbonding. */
      unbonding?: EraId | undefined;
    };
    result: EraReceipt;
    refusals: "eraUnknownParty" | "eraUnknown" | "eraLocked" | "eraNothingDue" | "eraConflict" | "invalidParams" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Takes a payout that is not mature back into the budget, because of an event that should not have been paid. For the operator. */
  "era_clawBackV1": {
    params: {
      /** Names the command. */
      id: EraId;
      /** Whose payout is taken back. */
      party: number;
      /** Of which epoch. */
      epoch: number;
      /** The node of the event that has earned it and should not have. */
      node: number;
      /** That node's number of the event. */
      sequence: number;
      /** Why, in words: 1 to 1,024 bytes. The record has their digest. */
      reason: string;
    };
    result: EraReceipt;
    refusals: "eraUnknownParty" | "eraUnknown" | "eraNotEarned" | "eraEpochNotOver" | "eraLocked" | "eraNothingDue" | "eraConflict" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Closes the open epoch, if it is over. For the operator; the box does it by itself when its time has come. */
  "era_closeV1": {
    params: {
      /** Which. */
      epoch: number;
    };
    result: EraReceipt;
    refusals: "eraEpochNotOver" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** The open epoch, and the newest that were closed. */
  "era_epochV1": {
    params: {
      /** Only epochs before this one; the newest, without it. */
      before?: number | undefined;
    };
    result: EraEpochs;
    refusals: "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Why an epoch pays a party what it does, down to the events. */
  "era_explainV1": {
    params: {
      /** Whose payout. */
      party: number;
      /** Of which epoch. */
      epoch: number;
    };
    result: EraExplanation;
    refusals: "eraUnknownParty" | "eraUnknown" | "boxQueueFull" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Reimburses a part of the gas of a transaction and charges its sender in ERA for it. For the operator, who has seen the receipt. */
  "era_offsetV1": {
    params: {
      /** Names the command. */
      id: EraId;
      /** Who sent the transaction, and pays in ERA. */
      party: number;
      /** So much ERA at most. */
      eraMax: Amount;
      /** The hash of the transaction whose receipt it is. */
      receipt: Digest;
      /** What the receipt says. */
      gasUsed: number;
      /** Wei for a unit of gas, as the receipt says. */
      gasPrice: Amount;
    };
    result: EraReceipt;
    refusals: "eraUnknownParty" | "eraInsufficient" | "eraConflict" | "eraOverflow" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** The policy of the open epoch. */
  "era_policyV1": {
    params: Record<string, never>;
    result: EraPolicy;
    refusals: "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Makes a tenant a party: one that pays for its jobs, or the developer of what asks for them; or a box that proves for tenants of this one. For the operator. */
  "era_registerV1": {
    params: {
      /** Names the command. */
      id: EraId;
      /** The tenant that it is; of a node none. */
      tenant?: string | undefined;
      /** user: it pays for the tenant's jobs. developer: it has made the rollup that asks for them. node: a box that proves for tenants of this one. */
      role: EraRole;
      /** The public key of a node; of nobody else. */
      key?: PublicKey | undefined;
      /** Who is behind it. Owners have numbers that the operator gives. */
      owner: number;
      /** Whether it is known who the owner is; without it that stays as it is. */
      verified?: boolean | undefined;
      /** Where it is paid on the chain. */
      address: Address;
    };
    result: EraReceipt;
    refusals: "eraConflict" | "invalidParams" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Of those who were active in a month, how many are in the next; rewarded and others, by the month of their first activity. */
  "era_retentionV1": {
    params: Record<string, never>;
    result: EraRetention;
    refusals: "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Takes what is left of a closed epoch to the chain, to be claimed there. For the operator. */
  "era_settleV1": {
    params: {
      /** Names the command. */
      id: EraId;
      /** Which. */
      epoch: number;
    };
    result: EraReceipt;
    refusals: "eraEpochNotOver" | "eraLocked" | "eraNothingDue" | "eraConflict" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Stakes an amount, or sets the standing order to stake a part of every claim. */
  "era_stakeV1": {
    params: {
      /** Names the command. */
      id: EraId;
      /** For whom. */
      party: number;
      /** How much. */
      amount?: Amount | undefined;
      /** In place of an amount: whether a part of every claim is staked from now on. */
      standing?: boolean | undefined;
    };
    result: EraReceipt;
    refusals: "eraUnknownParty" | "eraInsufficient" | "eraOverflow" | "eraConflict" | "invalidParams" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** What happened to a party, balance by balance, read from the journal. */
  "era_statementV1": {
    params: {
      /** Whose. */
      party: number;
      /** From which record on; the first, without it. */
      from?: number | undefined;
    };
    result: EraStatement;
    refusals: "eraUnknownParty" | "boxQueueFull" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Moves amounts between accounts, all legs or none. For the operator. */
  "era_transferV1": {
    params: {
      /** Names the command. */
      id: EraId;
      /** 1 to 16, one after the other, all or none. */
      legs: EraLeg[];
    };
    result: EraReceipt;
    refusals: "eraUnknownParty" | "eraInsufficient" | "eraForbidden" | "eraConflict" | "eraOverflow" | "invalidParams" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Ends a stake, or a part of it. */
  "era_unstakeV1": {
    params: {
      /** Names the command. */
      id: EraId;
      /** For whom. */
      party: number;
      /** Of which stake. */
      stake: EraId;
      /** How much. */
      amount: Amount;
    };
    result: EraReceipt;
    refusals: "eraUnknownParty" | "eraUnknown" | "eraInsufficient" | "eraLocked" | "eraConflict" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Says whether it is known who an owner is. For the operator. */
  "era_verifyV1": {
    params: {
      /** Names the command. */
      id: EraId;
      /** Which. */
      owner: number;
      /** Whether it is known who that is. */
      verified: boolean;
    };
    result: EraReceipt;
    refusals: "eraConflict" | "eraOff" | "eraDamaged" | "storageUnavailable";
  };
  /** Publishes the root of the tree of accepted issuers, in the place of the one before. For the operator, who is the authority of the box's registry; units are signed at home. */
  "state_issueV1": {
    params: {
      /** The root. */
      issuersRoot: Word;
    };
    result: StateInfo;
    refusals: "invalidRequest" | "invalidParams" | "rootsFull" | "stateJournalDamaged" | "storageUnavailable" | "stopping" | "boxQueueFull";
  };
  /** Opens a request: from now on holders may grant the calling tenant presentations that answer it. The same request again with another end takes its place. Grants are given at home, on what this answers. */
  "state_grantV1": {
    params: {
      /** What is asked. */
      request: RequestTerms;
      /** The first second of Unix time at which nothing more is taken for it; no grant may last longer. */
      closes: number;
    };
    result: StateInfo;
    refusals: "schemaUnknown" | "claimUnknown" | "claimRange" | "requestTerms" | "requestEnd" | "stateJournalDamaged" | "storageUnavailable" | "stopping" | "boxQueueFull" | "tenantCallsFull" | "quotaExceeded";
  };
  /** Asks for the proof of a presentation: a job in the tenant's scenario like any other, whose result is had with prover_resultV1. With an opening the box computes the witness, erased as other witnesses are, and refuses at once what would not be recorded. Records nothing. */
  "state_presentV1": {
    params: {
      /** The digest of the proving key of presentations, which the tenant has registered. */
      circuit: Digest;
      /** What the holder allows. */
      grant: GrantTerms;
      /** What the holder opens to the box, in base64 with padding; this or witness. */
      opening?: WitnessData | undefined;
      /** The digest of a witness that was uploaded; this or opening. */
      witness?: Digest | undefined;
      /** As of prover_submitV1. */
      deadlineMs?: number | undefined;
      /** As of prover_submitV1. */
      idempotencyKey?: IdempotencyKey | undefined;
    };
    result: JobStatus;
    refusals: "openingMalformed" | "grantMismatch" | "requestMismatch" | "grantSender" | "grantExpired" | "requestUnknown" | "requestOver" | "grantOutlives" | "rootUnknown" | "rootStale" | "grantPresented" | "nullifierSpent" | "circuitUnknown" | "circuitNotReady" | "blobUnknown" | "tenantQueueFull" | "boxQueueFull" | "deadlineUnmeetable" | "idempotencyConflict" | "stateJournalDamaged" | "storageUnavailable" | "stopping";
  };
  /** Verifies a presentation and records it. Those that come together are verified together. The caller is the sender that the grant names. */
  "state_verifyV1": {
    params: {
      /** The proof as snarkjs writes it. */
      proof: Record<string, unknown>;
      /** Its five public inputs as decimal strings. */
      publicInputs: string[];
      /** What the fifth is the digest of. */
      grant: GrantTerms;
    };
    result: PresentationInfo;
    refusals: "stateKeyMissing" | "inputsMalformed" | "proofMalformed" | "proofRefused" | "grantMismatch" | "requestMismatch" | "grantSender" | "grantExpired" | "requestUnknown" | "requestOver" | "grantOutlives" | "rootUnknown" | "rootStale" | "grantPresented" | "nullifierSpent" | "tenantCallsFull" | "stateJournalDamaged" | "storageUnavailable" | "stopping" | "boxQueueFull";
  };
  /** Uses a recorded presentation once more. The link is the holder's consent; sender, expiry, request and revocation root are checked again. */
  "state_reuseV1": {
    params: {
      /** The presentation: the digest of its grant. */
      grant: Word;
      /** The link before the one that was revealed last. */
      link: Link;
    };
    result: PresentationInfo;
    refusals: "presentationUnknown" | "grantSender" | "grantExpired" | "usesSpent" | "linkMismatch" | "requestUnknown" | "requestOver" | "rootStale" | "stateJournalDamaged" | "storageUnavailable" | "stopping" | "boxQueueFull";
  };
  /** Publishes the root of the tree of revoked units (for the operator), or takes back a request of the calling tenant. One of the two. */
  "state_revokeV1": {
    params: {
      /** The root. */
      revocationRoot?: Word | undefined;
      /** The request. */
      request?: Word | undefined;
    };
    result: StateInfo;
    refusals: "invalidRequest" | "invalidParams" | "rootsFull" | "requestUnknown" | "stateJournalDamaged" | "storageUnavailable" | "stopping" | "boxQueueFull";
  };
  /** Tells where the registry stands: its domain, roots and window, the caller's address, and a request or a presentation of the caller's. */
  "state_getV1": {
    params: {
      /** A presentation of which the caller is verifier or sender. */
      grant?: Word | undefined;
      /** A request of the calling tenant. */
      request?: Word | undefined;
    };
    result: StateInfo;
    refusals: "invalidRequest" | "presentationUnknown" | "stateJournalDamaged" | "boxQueueFull" | "storageUnavailable";
  };
  /** Adds a tenant and tells its secret, once. For the operator. */
  "tenant_addV1": {
    params: {
      /** Its name: 1 to 64 of a-z, 0-9, _ and -. */
      tenant: string;
      /** Its scenario class. */
      scenario: string;
      /** What it may do; both by default. */
      scopes?: Scope[] | undefined;
      /** How much it may have. */
      quotas?: Quotas | undefined;
    };
    result: TenantSecret;
    refusals: "invalidParams" | "tenantState" | "boxQueueFull" | "storageUnavailable";
  };
  /** Gives a tenant another secret, and takes the old one for a while too. For the operator. */
  "tenant_rotateV1": {
    params: {
      /** Its name: 1 to 64 of a-z, 0-9, _ and -. */
      tenant: string;
      /** For how long; an hour by default. */
      overlapMs?: number | undefined;
    };
    result: TenantSecret;
    refusals: "tenantUnknown" | "tenantState" | "boxQueueFull" | "storageUnavailable";
  };
  /** Refuses a tenant's tokens until it is resumed; its jobs go on. For the operator. */
  "tenant_suspendV1": {
    params: {
      /** Its name: 1 to 64 of a-z, 0-9, _ and -. */
      tenant: string;
    };
    result: TenantInfo;
    refusals: "tenantUnknown" | "tenantState" | "boxQueueFull" | "storageUnavailable";
  };
  /** Takes a tenant's tokens again. For the operator. */
  "tenant_resumeV1": {
    params: {
      /** Its name: 1 to 64 of a-z, 0-9, _ and -. */
      tenant: string;
    };
    result: TenantInfo;
    refusals: "tenantUnknown" | "tenantState" | "boxQueueFull" | "storageUnavailable";
  };
  /** Refuses a tenant's tokens, cancels its jobs, and erases what it had at the next start. For the operator. */
  "tenant_removeV1": {
    params: {
      /** Its name: 1 to 64 of a-z, 0-9, _ and -. */
      tenant: string;
    };
    result: TenantInfo;
    refusals: "tenantUnknown" | "tenantState" | "boxQueueFull" | "storageUnavailable";
  };
  /** All tenants. For the operator. */
  "tenant_listV1": {
    params: Record<string, never>;
    result: TenantInfo[];
    refusals: never;
  };
  /** Lends jobs that this box would not reach in time, to be proved by another. For the box's own fleet process. */
  "fleet_takeV1": {
    params: {
      /** How many jobs are wanted at most; 0 to hear of withdrawals alone. */
      max: number;
      /** Of the answer before: withdrawals after it are told. */
      cursor: number;
      /** Wait for so many milliseconds if there is nothing to tell; at once by default. */
      waitMs?: number | undefined;
    };
    result: FleetTaken;
    refusals: "fleetCursor" | "storageUnavailable" | "stopping";
  };
  /** All jobs that are lent. For the box's own fleet process. */
  "fleet_heldV1": {
    params: Record<string, never>;
    result: FleetHeld;
    refusals: never;
  };
  /** A proof that another box has made. Answered when the box has verified it and the job's end is on the disk. For the box's own fleet process. */
  "fleet_resultV1": {
    params: {
      /** Which job. */
      job: JobName;
      /** Under which fence. */
      fence: number;
      /** The proof as snarkjs writes it. Its public inputs are those of the job's witness. */
      proof: Record<string, unknown>;
      /** By what the ledger is to pay who has made it. */
      metered?: Metered | undefined;
    };
    result: FleetDone;
    refusals: "jobNotLent" | "fenceStale" | "lentProofWrong" | "circuitNotReady" | "boxQueueFull" | "stopping";
  };
  /** This box is to prove it after all. Answered when that is on the disk. For the box's own fleet process. */
  "fleet_returnV1": {
    params: {
      /** Which job. */
      job: JobName;
      /** Under which fence. */
      fence: number;
    };
    result: FleetDone;
    refusals: "jobNotLent" | "fenceStale" | "stopping";
  };
  /** What a job that is lent earns the box that proves it. For the box's own fleet process. */
  "fleet_billV1": {
    params: {
      /** Which job. */
      job: JobName;
      /** Under which fence. */
      fence: number;
      /** Who is to prove it. */
      lender: NodeName;
    };
    result: FleetBill;
    refusals: "jobNotLent" | "fenceStale" | "eraDamaged" | "storageUnavailable" | "stopping";
  };
  /** Signs that this box has proved a job of another, for the ledger of that one. For the box's own fleet process. */
  "fleet_meterV1": {
    params: {
      /** A job that this box has proved for another. */
      job: JobName;
      /** What it earns there. */
      bill: Bill;
    };
    result: FleetMetered;
    refusals: "jobUnknown" | "jobNotFinished" | "eraDamaged" | "storageUnavailable" | "stopping";
  };
}

/** Why the service may refuse, and the code that goes with the reason. */
export const ERROR_CODES = {
  parse: -32700,
  invalidRequest: -32600,
  methodNotFound: -32601,
  invalidParams: -32602,
  internal: -32603,
  tenantQueueFull: -32005,
  boxQueueFull: -32005,
  circuitUnknown: -32010,
  circuitNotReady: -32011,
  keyFormat: -32012,
  keyTruncated: -32012,
  keyTrailing: -32012,
  keySectionMissing: -32012,
  keySectionTwice: -32012,
  keySectionLength: -32012,
  keyField: -32012,
  keyRange: -32012,
  keyOffCurve: -32012,
  keyOutsideSubgroup: -32012,
  keyNoContribution: -32012,
  keyContent: -32012,
  developmentKey: -32013,
  circuitInUse: -32014,
  blobUnknown: -32015,
  witnessFormat: -32016,
  witnessTruncated: -32016,
  witnessTrailing: -32016,
  witnessSectionMissing: -32016,
  witnessSectionTwice: -32016,
  witnessSectionLength: -32016,
  witnessField: -32016,
  witnessLength: -32016,
  witnessRange: -32016,
  witnessContent: -32016,
  selfCheckFailed: -32017,
  jobUnknown: -32018,
  jobNotFinished: -32019,
  jobCancelled: -32020,
  idempotencyConflict: -32021,
  quotaExceeded: -32022,
  storageFull: -32023,
  stopping: -32024,
  deadlineUnmeetable: -32025,
  demandAboveCeiling: -32026,
  demandDuration: -32027,
  profileUnavailable: -32030,
  keySource: -32028,
  storageUnavailable: -32031,
  tenantCallsFull: -32005,
  tenantRateFull: -32005,
  outOfScope: -32032,
  accessEnded: -32035,
  tenantUnknown: -32033,
  tenantState: -32034,
  eraOff: -32040,
  eraDamaged: -32040,
  eraInsufficient: -32040,
  eraConflict: -32040,
  eraClosedEpoch: -32040,
  eraEpochNotOver: -32040,
  eraLocked: -32040,
  eraUnknownParty: -32040,
  eraUnknown: -32040,
  eraOverflow: -32040,
  eraNothingDue: -32040,
  eraPolicy: -32040,
  eraNotEarned: -32040,
  eraForbidden: -32040,
  schemaUnknown: -32050,
  claimUnknown: -32050,
  claimRange: -32050,
  requestTerms: -32050,
  requestEnd: -32050,
  requestUnknown: -32050,
  requestOver: -32050,
  requestMismatch: -32050,
  grantMismatch: -32050,
  grantSender: -32050,
  grantExpired: -32050,
  grantOutlives: -32050,
  grantPresented: -32050,
  rootUnknown: -32050,
  rootStale: -32050,
  rootsFull: -32050,
  nullifierSpent: -32050,
  presentationUnknown: -32050,
  usesSpent: -32050,
  linkMismatch: -32050,
  proofMalformed: -32050,
  proofRefused: -32050,
  inputsMalformed: -32050,
  openingMalformed: -32050,
  stateJournalDamaged: -32051,
  stateKeyMissing: -32051,
  witnessProgram: -32045,
  witnessProgramMissing: -32046,
  inputsFormat: -32047,
  inputsSignals: -32047,
  circuitAssertion: -32047,
  witnessProgramFailed: -32047,
  constraintUnsatisfied: -32047,
  witnessTime: -32047,
  r1cs: -32048,
  jobNotLent: -32036,
  fenceStale: -32037,
  lentProofWrong: -32038,
  fleetCursor: -32039,
} as const;

/** The stable name of a refusal: match on this. */
export type ServiceReason = keyof typeof ERROR_CODES;
