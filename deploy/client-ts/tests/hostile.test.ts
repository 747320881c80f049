// Networks that cut and servers that lie: nothing is lost, nothing is done twice, nothing hangs,
// and nothing grows without end.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Client, type JobEvent, type Source } from "caldera-client";
import { openFile } from "caldera-client/node";

import { box, client, long, operator, quick, refused, witness } from "./box.js";
import { answering, http, listen, relay } from "./relay.js";

const retry = { baseMs: 1, capMs: 1 };
let circuit: string;
let longCircuit: string;

before(async () => {
  circuit = (await client().register(await openFile(quick("final.zkey")))).circuit;
  longCircuit = (await client().register(await openFile(long.key), { check: "trusted" })).circuit;
});

test("a submission whose answers are lost is one job", async () => {
  const path = await relay(box.url, [
    { way: "answered", bytes: 0 },
    { way: "answered", bytes: 20 },
    { way: "answered", bytes: 0 },
  ]);
  const { job } = await client({ url: path.url, retry }).submit(circuit, witness);
  await path.close();
  const named = path.heard.map((text) => /"job":"(0x[0-9a-f]{16})"/.exec(text)?.[1]);
  assert.deepEqual(named, [job, job, job, job]);
});

test("what must not be done twice is not, and what must is not done for ever", async () => {
  const path = await relay(box.url, [{ way: "answered", bytes: 0 }]);
  const params = { tenant: "once", scenario: "social" };
  const adding = operator({ url: path.url, retry }).call("tenant_addV1", params);
  await assert.rejects(adding, refused("unreachable"));
  assert.equal(path.connections, 1);
  await path.close();
  // It was carried out, and only its answer is lost.
  await assert.rejects(operator().call("tenant_addV1", params), refused("tenantState"));

  const resetting = await listen((socket) => socket.resetAndDestroy());
  const plaza = client({ url: resetting.url, retry: { ...retry, attempts: 5 } });
  await assert.rejects(plaza.poolStatus(), refused("unreachable"));
  assert.equal(resetting.connections, 5);
  const ends = await plaza.batch([{ method: "pool_statusV1", params: {} }]);
  assert.ok(ends[0].status === "rejected" && ends[0].reason.reason === "unreachable");
  assert.equal(resetting.connections, 10);
  await resetting.close();
  await assert.rejects(plaza.events("0x0000000000000000").next(), refused("unreachable"));
});

test("an upload that is cut begins again", async () => {
  const path = await relay(box.url, [
    { way: "sent", bytes: 300_000 },
    { way: "sent", bytes: 1_000_000 },
    { way: "answered", bytes: 0 },
  ]);
  const plaza = client({ url: path.url, retry });
  const key = await openFile(long.key);
  await plaza.upload(key);
  assert.equal(path.connections, 4);
  await path.close();

  const bytes = new Uint8Array(2 ** 20).map((_, at) => at ^ (at >> 8));
  const second = await relay(box.url, [{ way: "sent", bytes: 300_000 }]);
  const digest = await client({ url: second.url, retry }).upload(bytes);
  assert.equal(second.connections, 2);
  assert.ok(await client({ url: second.url }).removeBlob(digest));
  await second.close();
});

test("waits and streams that are cut go on", async () => {
  const plaza = client();
  const bytes = await openFile(long.witness);
  const { job } = await plaza.submit(longCircuit, bytes);
  const cut = { way: "answered", bytes: 0 } as const;
  const paths = await Promise.all([
    relay(box.url, [cut, cut]),
    relay(box.url, [cut, { ...cut, bytes: 400 }, cut]),
  ]);
  const [polled, streamed] = paths;
  const waiting = client({ url: polled.url, retry }).result(job);
  const events: JobEvent[] = [];
  for await (const event of client({ url: streamed.url, retry }).events(job)) {
    events.push(event);
  }
  assert.deepEqual(events.map(({ type }) => type).slice(-2), ["status", "result"]);
  assert.equal((await waiting).job, job);
  assert.equal(polled.connections, 3);
  assert.equal(streamed.connections, 4);
  await Promise.all(paths.map((path) => path.close()));
});

test("answers that no calderad gives", async () => {
  const said = (body: object) => http(200, JSON.stringify(body));
  const cases: [string, string][] = [
    ["not HTTP at all\r\n\r\n", "unreachable"],
    ["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", "unreachable"],
    [http(200, "{"), "answer"],
    [http(200, "<html>"), "answer"],
    [said({}), "answer"],
    [said([]), "answer"],
    [said([1]), "answer"],
    [said({ jsonrpc: "2.0", id: 1, result: {} }), "answer"],
    [said({ jsonrpc: "2.0", id: 0 }), "answer"],
    [said({ jsonrpc: "2.0", id: 0, error: null }), "answer"],
    [said({ jsonrpc: "2.0", id: 0, error: { code: "x", data: { reason: 7 } } }), "answer"],
    [said({ jsonrpc: "2.0", id: null, error: { code: -32700, data: { reason: "parse" } } }), "parse"],
    [http(500, "no"), "http"],
    [http(403, JSON.stringify({ error: { data: { reason: "outOfScope" } } })), "outOfScope"],
    [http(429, "", "Retry-After: 3600\r\n"), "http"],
  ];
  for (const [text, reason] of cases) {
    const server = await answering([text]);
    const one = new Client({ url: server.url, token: "x", retry: { ...retry, attempts: 2 } });
    await assert.rejects(one.poolStatus(), refused(reason), text);
    await server.close();
  }
  // A stream is held to the same.
  for (const [text, reason] of [
    [http(200, "event: status\ndata: {\n\n"), "answer"],
    [http(200, "event: status\ndata: null\n\n"), "answer"],
    [http(200, "event: other\ndata: 1\n\n"), "unreachable"],
    [http(200, `data: ${"x".repeat(5_000_000)}`), "answer"],
  ] as const) {
    const server = await answering([text]);
    const one = new Client({ url: server.url, token: "x", retry: { ...retry, attempts: 2 } });
    await assert.rejects(one.events("0x0000000000000000").next(), refused(reason), text.slice(0, 80));
    await server.close();
  }
});

test("a token goes nowhere else", async () => {
  const other = await answering([http(200, "{}")]);
  const server = await answering([http(307, "", `Location: ${other.url}/\r\n`)]);
  const one = new Client({ url: server.url, token: "secret", retry: { ...retry, attempts: 2 } });
  await assert.rejects(one.poolStatus(), { name: "CalderaError" });
  await assert.rejects(one.upload(witness), { name: "CalderaError" });
  assert.ok(server.heard[0]?.includes("Bearer secret"));
  assert.equal(other.connections, 0);
  await Promise.all([server.close(), other.close()]);
});

test("refusals for now are tried again, and others are not", async () => {
  const good = http(200, JSON.stringify({ jsonrpc: "2.0", id: 0, result: { removed: true } }));
  const refusal = (reason: string, more: object = {}) =>
    http(200, JSON.stringify({ jsonrpc: "2.0", id: 0, error: { code: -1, message: "", data: { reason, ...more } } }));
  const remove = async (texts: string[]) => {
    const server = await answering(texts);
    try {
      const one = new Client({ url: server.url, token: "x", retry });
      return await one.call("prover_unregisterCircuitV1", { circuit: "00" }, { timeoutMs: 20_000 });
    } finally {
      await server.close();
    }
  };
  const later = [
    http(503, "stopping"),
    http(429, "", "Retry-After: 0\r\n"),
    http(502, "<html>"),
    refusal("storageUnavailable", { retryAfterMs: 1 }),
    refusal("boxQueueFull", { retryAfterMs: 1 }),
    refusal("stopping"),
  ];
  assert.deepEqual(await remove([...later, good]), { removed: true });
  for (const reason of ["circuitInUse", "internal", "notKnownYet"]) {
    await assert.rejects(remove([refusal(reason), good]), refused(reason));
  }
  // Longer than anybody should wait without being asked.
  await assert.rejects(remove([refusal("boxQueueFull", { retryAfterMs: 3_600_000 }), good]), refused("boxQueueFull"));
});

test("a server that says nothing, and one that never ends", async () => {
  const silent = await listen(() => undefined);
  const one = new Client({ url: silent.url, token: "x", answerTimeoutMs: 30, retry: { ...retry, attempts: 3 } });
  await assert.rejects(one.poolStatus(), refused("timeout"));
  assert.equal(silent.connections, 3);
  // The caller's time is over for all attempts at once.
  const patient = new Client({ url: silent.url, token: "x", retry });
  await assert.rejects(patient.poolStatus({ timeoutMs: 30 }), refused("timeout"));
  assert.equal(silent.connections, 4);
  const given = new AbortController();
  const batch = patient.batch([{ method: "pool_statusV1", params: {} }], { signal: given.signal });
  given.abort();
  const [end] = await batch;
  assert.ok(end.status === "rejected" && end.reason.reason === "aborted");
  await silent.close();

  const flooding = await listen((socket) => {
    socket.write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    const more = () => {
      while (socket.writable && socket.write(" ".repeat(1 << 20)));
    };
    socket.on("data", more);
    socket.on("drain", more);
  });
  const flooded = new Client({ url: flooding.url, token: "x", retry });
  await assert.rejects(flooded.poolStatus(), refused("answer"));
  assert.equal(flooding.connections, 1);
  await flooding.close();
});

test("a source that is not what it says is not sent again and again", async () => {
  const source = (size: number, chunks: (number | Error)[]): Source & { opened: number } => ({
    size,
    opened: 0,
    stream() {
      this.opened += 1;
      const left = [...chunks];
      const pull = (controller: ReadableStreamDefaultController<Uint8Array>) => {
        const next = left.shift();
        if (next instanceof Error) {
          throw next;
        }
        if (next === undefined) {
          controller.close();
        } else {
          controller.enqueue(new Uint8Array(next));
        }
      };
      return new ReadableStream({ pull }, { highWaterMark: 0 });
    },
  });
  const plaza = client({ retry });
  const digest = "00".repeat(32);
  const gone = new Error("the disk is gone");
  for (const [size, chunks] of [
    [100, [50, gone]],
    [100, [50]],
    [100, [50, 51]],
    [0, [1]],
  ] as const) {
    for (const options of [{}, { digest }]) {
      const bad = source(size, [...chunks]);
      await assert.rejects(plaza.upload(bad, options), refused("source"));
      assert.equal(bad.opened, 1);
    }
  }
  await assert.rejects(plaza.upload(source(1, [gone])), { reason: "source", cause: gone });
  await assert.rejects(openFile(quick("no such file")), { code: "ENOENT" });
});
