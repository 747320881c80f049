// The service that these tests talk to, which whoever runs them has started, and clients of it.

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { Client, type CalderaError, type ClientOptions, type Methods } from "caldera-client";
import { readSecret } from "caldera-client/node";

/** What the environment has to say; see `deploy/tests/tests/client_ts.rs`. */
export const box = {
  url: need("CALDERA_URL"),
  tenant: need("CALDERA_TENANT"),
  secret: await readSecret(need("CALDERA_SECRET_FILE")),
  operatorSecret: await readSecret(need("CALDERA_OPERATOR_SECRET_FILE")),
};

/** A circuit that is proven in a blink: its files lie in one folder. */
export const quick = (name: string): string => join(need("CALDERA_CIRCUIT"), name);
export const witness = new Uint8Array(readFileSync(quick("witness.wtns")));
/** A circuit whose proof takes so long that something can be done meanwhile; its witness does not fit into a call. */
export const long = { key: need("CALDERA_LONG_KEY"), witness: need("CALDERA_LONG_WITNESS") };

type Other = Partial<Pick<ClientOptions, "url" | "answerTimeoutMs" | "retry" | "fetch">>;

/** A client of the box's own tenant. */
export function client(other: Other = {}): Client {
  return new Client({ url: box.url, tenant: box.tenant, secret: box.secret, ...other });
}

/** The operator's client. */
export function operator(other: Other = {}): Client {
  return new Client({ url: box.url, tenant: "operator", secret: box.operatorSecret, ...other });
}

/** The account of a new tenant, that no other test has. */
export async function tenant(
  name: string,
  rest: Omit<Methods["tenant_addV1"]["params"], "tenant" | "scenario"> = {},
): Promise<{ tenant: string; secret: string; url: string }> {
  const { secret } = await operator().call("tenant_addV1", { tenant: name, scenario: "social", ...rest });
  return { tenant: name, secret, url: box.url };
}

/** Which of these proofs snarkjs accepts. */
export function verdicts(cases: object[]): boolean[] {
  const script = join(need("CALDERA_INTEROP"), "verify.mjs");
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], {
    input: JSON.stringify(cases),
    encoding: "utf8",
  });
  if (status !== 0) {
    throw new Error(`verify.mjs: ${stderr}`);
  }
  return JSON.parse(stdout) as boolean[];
}

/** A fetch that keeps count. */
export function counting(): { fetch: typeof fetch; seen: string[] } {
  const seen: string[] = [];
  const counted: typeof fetch = (input, init) => {
    seen.push(`${init?.method ?? "GET"} ${new URL(String(input)).pathname}`);
    return fetch(input, init);
  };
  return { fetch: counted, seen };
}

/** What an error must be, for `assert.rejects`. */
export function refused(reason: string, rest: Partial<CalderaError> = {}): object {
  return { name: "CalderaError", reason, ...rest };
}

/** The error that this ends with. */
export async function failure(promise: Promise<unknown>): Promise<CalderaError> {
  try {
    await promise;
  } catch (error) {
    return error as CalderaError;
  }
  throw new Error("expected an error, got none");
}

function need(name: string): string {
  const value = process.env[name];
  if (value === undefined) {
    throw new Error(`${name} is not set: these tests are run by deploy/tests/tests/client_ts.rs`);
  }
  return value;
}
