// Base64 with padding (RFC 4648, section 4), by what every platform has.

/** Bytes in base64. */
export function base64(bytes: Uint8Array): string {
  let binary = "";
  // As many arguments as any engine takes in one call.
  for (let at = 0; at < bytes.length; at += 8192) {
    binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(binary);
}
