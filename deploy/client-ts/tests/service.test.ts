// The client with a real service: what it is for, and what the service refuses.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { before, test } from "node:test";
import { runInNewContext } from "node:vm";

import { Client, groth16, inline, PROTOCOL_VERSION, type CalderaError, type JobEvent, type Limits, type Source } from "caldera-client";
import { openFile } from "caldera-client/node";

import { box, client, counting, failure, long, operator, quick, refused, tenant, verdicts, witness } from "./box.js";

const verificationKey: unknown = JSON.parse(readFileSync(quick("final.vk.json"), "utf8"));
let circuit: string;
let longCircuit: string;

before(async () => {
  circuit = (await client().register(await openFile(quick("final.zkey")))).circuit;
  const key = await openFile(long.key);
  longCircuit = (await client().register(key, { name: "long", check: "trusted" })).circuit;
});

test("proofs from a witness in each form, which snarkjs accepts", async () => {
  const plaza = client();
  const forms = [witness, new Blob([witness]), await openFile(quick("witness.wtns"))];
  const results = await Promise.all(forms.map((form) => plaza.prove(circuit, form)));
  // One that was uploaded goes with the next job that has it, which here is nobody else's.
  const alone = new Client(await tenant("uploads"));
  await alone.register(await openFile(quick("final.zkey")));
  results.push(await alone.prove(circuit, await alone.upload(witness)));
  const cases = results.map(({ proof, publicInputs }) => ({ verificationKey, publicInputs, proof }));
  assert.deepEqual(verdicts(cases), [true, true, true, true]);
  assert.equal(new Set(results.map(({ job }) => job)).size, 4);
  // And one that is too long to go along.
  const { job } = await plaza.prove(longCircuit, new Uint8Array(readFileSync(long.witness)));
  assert.equal((await plaza.wait(job)).state, "proved");
});

test("inputs in place of a witness, computed and checked by the service", async () => {
  const one = new Client(await tenant("inputs"));
  const key = await openFile(quick("final.zkey"));
  const parts = {
    witnessProgram: await openFile(quick("polynomial_js/polynomial.wasm")),
    r1cs: await openFile(quick("polynomial.r1cs")),
  };
  const remote = groth16(one, undefined, parts);
  const inputs = { x: 12345678901234567890n, a: 7, y: "99" };
  const { proof, publicSignals } = await remote.fullProve(inputs, undefined, key);
  // By its digest the circuit is found among those that are registered.
  const again = await groth16(one).fullProve(inputs, undefined, circuit);
  assert.deepEqual(again.publicSignals, publicSignals);
  assert.deepEqual(verdicts([{ verificationKey, publicInputs: publicSignals, proof }]), [true]);
  const [info] = await one.call("prover_listCircuitsV1", {});
  assert.equal(info?.r1cs?.length, 64);
  const wrong = remote.fullProve({ ...inputs, z: 1 }, undefined, key);
  await assert.rejects(wrong, refused("inputsSignals", { code: -32047 }));
  // One that was registered without.
  const without = groth16(client()).fullProve(inputs, undefined, circuit);
  await assert.rejects(without, refused("usage"));
});

test("a key that is there is not uploaded again, nor one that is not there read in vain", async () => {
  const { fetch, seen } = counting();
  const account = await tenant("registers");
  const one = new Client({ ...account, fetch });
  const uploads = () => seen.filter((it) => it.startsWith("PUT")).length;
  const key = await openFile(quick("final.zkey"));
  const info = await one.register(key, { name: "polynomial" });
  assert.equal(info.name, "polynomial");
  assert.equal(uploads(), 1);
  assert.deepEqual(await one.register(key), await one.register(info.circuit));
  assert.equal(uploads(), 1);
  await assert.rejects(one.register("00".repeat(32)), refused("blobUnknown", { code: -32015 }));
  // While a circuit is registered with it, a blob stays.
  await assert.rejects(one.removeBlob(circuit), refused("circuitInUse", { status: 409 }));
  assert.deepEqual(await one.call("prover_unregisterCircuitV1", { circuit }), { removed: true });
  assert.deepEqual([await one.removeBlob(circuit), await one.removeBlob(circuit)], [true, false]);
});

test("a key that nobody contributed to, and one that is damaged", async () => {
  const plaza = client();
  await assert.rejects(plaza.register(await openFile(quick("fresh.zkey"))), refused("keyNoContribution", { code: -32012 }));
  const key = new Uint8Array(readFileSync(quick("final.zkey")));
  await assert.rejects(plaza.register(key.subarray(0, 5000)), refused("keyTruncated"));
  // A byte of a point, which only the check that comes later sees.
  key[10_000]! ^= 1;
  await assert.rejects(plaza.register(key), refused("keyOffCurve", { code: -32012 }));
});

test("a job is told of until it has ended", async () => {
  const plaza = client();
  const { job } = await plaza.submit(longCircuit, await openFile(long.witness));
  const events: JobEvent[] = [];
  for await (const event of plaza.events(job)) {
    events.push(event);
  }
  const states = events.map((event) => (event.type === "status" ? event.status.state : event.type));
  assert.deepEqual(states.slice(-2), ["proved", "result"]);
  const last = events.at(-1);
  assert.deepEqual(last?.type === "result" && last.result, await plaza.result(job));
  await assert.rejects(plaza.events("0x0000000000000000").next(), refused("jobUnknown", { code: -32018, status: 404 }));
  await assert.rejects(plaza.result("0x0000000000000000"), refused("jobUnknown", { code: -32018 }));
});

test("one submission under one key is one job", async () => {
  const plaza = client();
  const options = { idempotencyKey: "one" };
  const jobs = await Promise.all([1, 2, 3].map(() => plaza.submit(circuit, witness, options)));
  assert.equal(new Set(jobs.map(({ job }) => job)).size, 1);
  const other = plaza.submit(circuit, witness, { ...options, deadlineMs: 60_000 });
  await assert.rejects(other, refused("idempotencyConflict", { code: -32021 }));
});

test("a job that fails says why, in each way of asking", async () => {
  const plaza = client();
  const cut = witness.subarray(0, witness.length - 1);
  const wrong = Uint8Array.from(witness);
  wrong[wrong.length - 32]! ^= 1;
  for (const [bad, reason, code] of [
    [cut, "witnessTruncated", -32016],
    [wrong, "selfCheckFailed", -32017],
  ] as const) {
    await assert.rejects(plaza.prove(circuit, bad), refused(reason, { code }));
    const { job } = await plaza.submit(circuit, bad);
    const status = await plaza.wait(job);
    assert.equal(status.state, "failed");
    assert.deepEqual([status.error?.reason, status.error?.code], [reason, code]);
    let told: JobEvent | undefined;
    for await (const event of plaza.events(job)) {
      told = event;
    }
    assert.equal(told?.type === "status" && told.status.error?.reason, reason);
  }
});

test("a batch has an end for each call, in as few requests as there can be", async () => {
  const { fetch, seen } = counting();
  const plaza = client({ fetch });
  const calls = Array.from({ length: 70 }, (_, at) =>
    at % 2 === 0
      ? ({ method: "prover_listCircuitsV1", params: {} } as const)
      : ({ method: "prover_statusV1", params: { job: `0x${String(at).padStart(16, "0")}` } } as const),
  );
  const ends = await plaza.batch(calls);
  assert.equal(seen.length, 2);
  ends.forEach((end, at) => {
    assert.equal(end.status, at % 2 === 0 ? "fulfilled" : "rejected");
    assert.ok(end.status === "fulfilled" || (end.reason as CalderaError).reason === "jobUnknown");
  });
  // 20 times 80 KB are two requests of at most a MiB; no witness is one of a proof.
  const noise = Array.from({ length: 20 }, (_, at) => new Uint8Array(60_000).fill(at));
  const submissions = noise.map((bytes) => ({ method: "prover_submitV1", params: inline(circuit, bytes) }) as const);
  const submitted = await plaza.batch(submissions);
  assert.equal(seen.length, 4);
  const jobs = submitted.map((end) => (end.status === "fulfilled" ? end.value.job : assert.fail(String(end.reason))));
  const ended = await Promise.all(jobs.map((job) => plaza.wait(job)));
  assert.deepEqual(new Set(ended.map(({ error }) => error?.reason)), new Set(["witnessFormat"]));
  assert.deepEqual(await plaza.batch([]), []);
});

test("a cancelled job, a wait that is given up, and a proof that is", async () => {
  const account = await tenant("cancels");
  const plaza = new Client(account);
  await plaza.register(await openFile(long.key), { check: "trusted" });
  const bytes = await openFile(long.witness);
  // Behind these nothing ends soon, however slowly the lines below are run.
  const params = { circuit: longCircuit, witness: await plaza.upload(bytes) };
  const ahead = await plaza.batch(
    Array.from({ length: 48 }, () => ({ method: "prover_submitV1", params }) as const),
  );
  const others = ahead.map((end) => (end.status === "fulfilled" ? end.value.job : assert.fail(String(end.reason))));
  const { job } = await plaza.submit(longCircuit, bytes);

  for (const wait of [
    (limits: Limits): Promise<unknown> => plaza.wait(job, limits),
    (limits: Limits): Promise<unknown> => plaza.result(job, limits),
  ]) {
    const given = new AbortController();
    const waiting = wait({ signal: given.signal });
    given.abort("no more");
    await assert.rejects(waiting, refused("aborted", { cause: "no more" }));
    await assert.rejects(wait({ timeoutMs: 50 }), refused("timeout"));
  }
  const given = new AbortController();
  await assert.rejects(async () => {
    for await (const event of plaza.events(job, { signal: given.signal })) {
      assert.equal(event.type, "status");
      given.abort("no more");
    }
  }, refused("aborted", { cause: "no more" }));
  // The job knows nothing of it.
  const status = await plaza.call("prover_statusV1", { job });
  assert.ok(["queued", "preparing", "running"].includes(status.state), status.state);

  assert.equal((await plaza.cancel(job)).state, "cancelled");
  assert.equal((await plaza.wait(job)).state, "cancelled");
  await assert.rejects(plaza.result(job), refused("jobCancelled", { code: -32020 }));

  // Nobody else knows the job of a proof.
  const options = { idempotencyKey: "given-up" };
  const stop = new AbortController();
  const watching: typeof fetch = (input, init) => {
    const answer = fetch(input, init);
    if (String(init?.body).includes("prover_resultV1")) {
      stop.abort();
    }
    return answer;
  };
  const proving = new Client({ ...account, fetch: watching }).prove(longCircuit, bytes, { ...options, signal: stop.signal });
  await assert.rejects(proving, refused("aborted"));
  const again = await plaza.submit(longCircuit, bytes, options);
  assert.equal((await plaza.wait(again.job)).state, "cancelled");

  await plaza.batch(others.map((it) => ({ method: "prover_cancelV1", params: { job: it } }) as const));
});

test("a refusal of parameters names the field", async () => {
  const submission = { circuit, witness: circuit, deadlineMs: "5000" as unknown as number };
  const error = await failure(client().call("prover_submitV1", submission));
  assert.deepEqual([error.reason, error.field], ["invalidParams", "deadlineMs"]);
  const unknown = await failure(client().call("prover_statusV1", { job: "0x0000000000000001" }));
  assert.deepEqual([unknown.reason, unknown.field], ["jobUnknown", undefined]);
});

test("a full queue is waited for, or told", async () => {
  const account = await tenant("queues", { quotas: { queue: 1 } });
  const patient = new Client({ ...account, retry: { attempts: 1000 } });
  await patient.register(await openFile(long.key), { check: "trusted" });
  const bytes = await openFile(long.witness);
  const first = await patient.submit(longCircuit, bytes);

  const hasty = new Client({ ...account, retry: { attempts: 1 } });
  const error = await failure(hasty.submit(longCircuit, bytes));
  assert.deepEqual([error.reason, error.code], ["tenantQueueFull", -32005]);
  assert.ok(error.retryAfterMs !== undefined && error.retryAfterMs > 0, String(error.retryAfterMs));

  const proofs = await Promise.all([1, 2, 3].map(() => patient.prove(longCircuit, bytes)));
  assert.equal(new Set(proofs.map(({ job }) => job)).size, 3);
  assert.equal((await patient.wait(first.job)).state, "proved");
});

test("too many requests a second are slowed down: calls, batches and uploads", async () => {
  const account = await tenant("hurries", { quotas: { requests: 5 } });
  const hasty = new Client({ ...account, retry: { attempts: 1 } });
  const refusals: CalderaError[] = [];
  const uploads: CalderaError[] = [];
  while (uploads.length === 0 || refusals.length === 0) {
    await hasty.call("prover_listCircuitsV1", {}).catch((error: CalderaError) => refusals.push(error));
    await hasty.upload(Uint8Array.of(1)).catch((error: CalderaError) => uploads.push(error));
  }
  for (const error of [...refusals, ...uploads]) {
    assert.deepEqual([error.reason, error.code], ["tenantRateFull", -32005]);
    assert.ok(error.retryAfterMs !== undefined && error.retryAfterMs <= 1001, String(error.retryAfterMs));
  }
  assert.equal(uploads[0]?.status, 429);

  const { fetch, seen } = counting();
  const patient = new Client({ ...account, fetch, retry: { attempts: 50 } });
  await patient.upload(Uint8Array.of(2));
  const calls = Array.from({ length: 12 }, () => ({ method: "prover_listCircuitsV1", params: {} }) as const);
  const ends = await patient.batch(calls);
  assert.deepEqual(new Set(ends.map(({ status }) => status)), new Set(["fulfilled"]));
  assert.ok(seen.length > 2, `${seen.length} requests`);
});

test("whoever is not known, or may not", async () => {
  const stranger = new Client({ url: box.url, tenant: box.tenant, secret: "11".repeat(32) });
  await assert.rejects(stranger.poolStatus(), refused("unauthorized", { status: 401 }));
  const nobody = new Client({ url: box.url, tenant: "nobody", secret: "11".repeat(32) });
  await assert.rejects(nobody.events("0x0000000000000000").next(), refused("unauthorized"));
  // Nothing was read beyond what had been under way when the answer came.
  const endless = made(2 ** 40);
  const upload = stranger.upload(endless, { digest: "00".repeat(32) });
  await assert.rejects(upload, refused("unauthorized", { status: 401 }));
  assert.ok(endless.given < 2 ** 30, `${endless.given} bytes were sent`);

  const reader = new Client(await tenant("reads", { scopes: ["read"] }));
  assert.deepEqual(await reader.call("prover_listCircuitsV1", {}), []);
  await assert.rejects(reader.submit(circuit, witness), refused("outOfScope", { code: -32032 }));
  await assert.rejects(reader.upload(witness), refused("outOfScope", { status: 403 }));
  await assert.rejects(operator().submit(circuit, witness), refused("invalidRequest"));
});

test("a token that somebody else made", async () => {
  const { sign } = await import("caldera-client");
  let asked = 0;
  const token = async () => {
    asked += 1;
    return sign(box.tenant, box.secret, Math.floor(Date.now() / 1000));
  };
  const given = new Client({ url: `${box.url}/`, token });
  await given.prove(circuit, witness);
  assert.ok(asked >= 2, `${asked} tokens`);
  const fixed = new Client({ url: box.url, token: await token() });
  const pool = await fixed.poolStatus();
  assert.ok(pool.units.length > 0 && pool.tenants.some((it) => it.tenant === box.tenant));
  assert.ok((await operator().poolStatus()).tenants.every((it) => !it.foreign));
});

test("the service describes itself in the version of these types", async () => {
  const token = (await import("caldera-client")).sign(box.tenant, box.secret, Math.floor(Date.now() / 1000));
  const response = await fetch(box.url, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}` },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "rpc.discover" }),
  });
  const { result } = (await response.json()) as { result: { info: { version: string } } };
  assert.equal(result.info.version, PROTOCOL_VERSION);
});

test("a large upload is never in memory", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const size = 96 * 1024 * 1024;
  const inMemory = () => {
    collect();
    return process.memoryUsage().arrayBuffers;
  };
  const begin = inMemory();
  let peak = 0;
  const source = made(size, (given) => {
    if (given % (8 * 1024 * 1024) === 0) {
      peak = Math.max(peak, inMemory() - begin);
    }
  });
  const plaza = client();
  const digest = await plaza.upload(source);
  assert.equal(source.given, 2 * size);
  assert.ok(peak <= 24 * 1024 * 1024, `${peak} bytes in memory`);
  // It is what was announced, or the service would not have taken it; nor does it take anything else.
  assert.ok(await plaza.removeBlob(digest));
  const lie = plaza.upload(made(size), { digest: "00".repeat(32) });
  await assert.rejects(lie, refused("digestMismatch", { status: 422 }));
});

/** So many bytes, each piece made when it is taken. */
function made(size: number, taken: (given: number) => void = () => undefined): Source & { given: number } {
  const piece = 64 * 1024;
  const source = {
    size,
    given: 0,
    stream() {
      let left = size;
      const pull = (controller: ReadableStreamDefaultController<Uint8Array>) => {
        if (left === 0) {
          controller.close();
          return;
        }
        controller.enqueue(new Uint8Array(piece).fill(left / piece));
        left -= piece;
        source.given += piece;
        taken(source.given);
      };
      return new ReadableStream({ pull }, { highWaterMark: 0 });
    },
  };
  return source;
}
