// Tokens as calderad takes them: JWT (RFC 7519) signed with HS256, as in Ethereum's Engine API, with
// the name of the tenant in `kid`. One is good for a minute, so each request gets its own.

import { base64 } from "./base64.js";
import { CalderaError } from "./error.js";
import { hmacSha256 } from "./sha256.js";

/** Who signs. */
export interface Account {
  /** The name of the tenant, or `operator`. */
  tenant: string;
  /** Its secret: 32 bytes, or the 64 hexadecimal digits of its secret file. */
  secret: string | Uint8Array;
}

/** Reads a secret as its file has it: 64 hexadecimal digits, perhaps after `0x`, perhaps a line end. */
export function parseSecret(secret: string | Uint8Array): Uint8Array {
  if (typeof secret !== "string") {
    if (secret.length !== SECRET_BYTES) {
      throw usage(`the secret: expected ${SECRET_BYTES} bytes, got ${secret.length}`);
    }
    return Uint8Array.from(secret);
  }
  const digits = secret.trim().replace(/^0x/, "");
  // The secret itself never stands in a message.
  if (!/^[0-9a-fA-F]*$/.test(digits) || digits.length !== 2 * SECRET_BYTES) {
    throw usage(`the secret: expected ${2 * SECRET_BYTES} hexadecimal digits, got something else`);
  }
  return Uint8Array.from(digits.match(/../g)!, (pair) => Number.parseInt(pair, 16));
}

/** A token of this tenant, issued at this second of Unix time. */
export function sign(tenant: string, secret: Uint8Array, second: number): string {
  const encoder = new TextEncoder();
  const part = (value: object) => url(encoder.encode(JSON.stringify(value)));
  const signed = `${part({ alg: "HS256", typ: "JWT", kid: tenant })}.${part({ iat: second })}`;
  return `${signed}.${url(hmacSha256(secret, encoder.encode(signed)))}`;
}

function url(bytes: Uint8Array): string {
  return base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function usage(message: string): CalderaError {
  return new CalderaError(message, { reason: "usage" });
}

const SECRET_BYTES = 32;
