// The parts that need no service, held against those of Node.

import assert from "node:assert/strict";
import { createHash, createHmac, randomBytes } from "node:crypto";
import { test } from "node:test";
import { inspect } from "node:util";

import { CalderaError, Client, EventParser, inline, parseSecret, Sha256, sign } from "caldera-client";

test("a digest is that of Node, at each length and however it comes", () => {
  const bytes = new Uint8Array(randomBytes(300));
  for (let length = 0; length <= bytes.length; length += 1) {
    const part = bytes.subarray(0, length);
    const expected = createHash("sha256").update(part).digest("hex");
    for (const cut of [0, 1, 63, 64, 65, 128, 200]) {
      const digest = new Sha256().update(part.subarray(0, cut)).update(part.subarray(cut)).digest();
      assert.equal(Buffer.from(digest).toString("hex"), expected, `${length} bytes, cut at ${cut}`);
    }
  }
  // More bits than 32 bits count.
  const block = new Uint8Array(1 << 20);
  const [ours, theirs] = [new Sha256(), createHash("sha256")];
  for (let at = 0; at < 513; at += 1) {
    ours.update(block);
    theirs.update(block);
  }
  assert.equal(Buffer.from(ours.digest()).toString("hex"), theirs.digest("hex"));
});

test("a token is signed as Node signs", () => {
  const secret = new Uint8Array(randomBytes(32));
  const [head, claims, signature] = sign("straße", secret, 1_795_427_520).split(".");
  const text = (part: string | undefined) => JSON.parse(Buffer.from(part!, "base64url").toString());
  assert.deepEqual(text(head), { alg: "HS256", typ: "JWT", kid: "straße" });
  assert.deepEqual(text(claims), { iat: 1_795_427_520 });
  const expected = createHmac("sha256", secret).update(`${head}.${claims}`).digest("base64url");
  assert.equal(signature, expected);
});

test("a secret is read as its file has it, and never shown", () => {
  const digits = "0a1B".repeat(16);
  const bytes = new Uint8Array(Buffer.from(digits, "hex"));
  for (const text of [digits, `0x${digits}`, `${digits}\n`, ` 0x${digits}\r\n`]) {
    assert.deepEqual(parseSecret(text), bytes);
  }
  assert.deepEqual(parseSecret(bytes), bytes);
  for (const bad of [digits.slice(1), `${digits}00`, `${digits.slice(1)}g`, "", new Uint8Array(31)]) {
    assert.throws(
      () => parseSecret(bad),
      (error: CalderaError) =>
        error.reason === "usage" && (typeof bad !== "string" || bad === "" || !error.message.includes(bad)),
    );
  }
  const client = new Client({ url: "http://127.0.0.1:1", tenant: "plaza", secret: digits });
  const shown = inspect(client, { depth: 9, showHidden: true }) + JSON.stringify(client);
  assert.ok(!shown.includes(digits) && !shown.includes("10, 27"), shown);
});

test("events are the same however they come", () => {
  const text =
    "\uFEFFevent: status\ndata: {\"a\":\ndata:1}\n\n:a comment\n\r\nid: 7\rretry\rdata\r\rdata: x\r\n\r\nevent: lost\n\nevent: cut";
  const expected = [
    { event: "status", data: '{"a":\n1}' },
    { event: "message", data: "" },
    { event: "message", data: "x" },
  ];
  for (let cut = 0; cut <= text.length; cut += 1) {
    for (let second = cut; second <= text.length; second += 1) {
      const parser = new EventParser();
      const parts = [text.slice(0, cut), text.slice(cut, second), text.slice(second)];
      assert.deepEqual(parts.flatMap((part) => parser.push(part)), expected, `cut at ${cut} and ${second}`);
    }
  }
});

test("an event without an end is refused", () => {
  for (const line of ["data: x\n", "x"]) {
    const parser = new EventParser();
    const flood = () => {
      for (let at = 0; at < 64; at += 1) {
        parser.push(line.repeat(128 * 1024));
      }
    };
    assert.throws(flood, { reason: "answer" });
  }
});

test("what cannot be is refused before it is sent", async () => {
  for (const url of ["", "127.0.0.1:7420", "ftp://127.0.0.1", "http://name:word@127.0.0.1"]) {
    assert.throws(() => new Client({ url, token: "x" }), { reason: "usage" }, url);
  }
  assert.throws(() => inline("00", new Uint8Array(65_537)), { reason: "usage" });
  const none = new AbortController();
  none.abort("enough");
  const client = new Client({ url: "http://127.0.0.1:1", token: "x" });
  const params = { signal: none.signal };
  await assert.rejects(client.poolStatus(params), { reason: "aborted", cause: "enough" });
});

// What does not fit the protocol does not compile; tsc is the one who runs this.
export async function types(client: Client): Promise<void> {
  const info = await client.call("prover_estimateV1", { circuit: "00" });
  info.proofMs.toFixed();
  // @ts-expect-error there is no such method
  await client.call("prover_submitV2", {});
  // @ts-expect-error the circuit is missing
  await client.call("prover_estimateV1", {});
  // @ts-expect-error a field that is not there
  info.proofS;
  // @ts-expect-error a reason that is not there
  new CalderaError("", { reason: "internal" }).reason === "nonsense";
  const [first, second] = await client.batch([
    { method: "prover_listCircuitsV1", params: {} },
    { method: "prover_statusV1", params: { job: "0x0000000000000000" } },
  ]);
  if (first.status === "fulfilled" && second.status === "fulfilled") {
    first.value.map((it) => it.wires);
    // @ts-expect-error the second is a job
    second.value.map((it) => it.wires);
  }
}
