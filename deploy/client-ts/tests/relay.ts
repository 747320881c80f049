// A relay of TCP in front of the service that cuts connections where it is told to: a network that
// is not to be trusted. And servers that are no calderad.

import { once } from "node:events";
import net from "node:net";

/** When to cut a connection: at its first byte, or when more than so many have passed. */
export interface Cut {
  way: "sent" | "answered";
  bytes: number;
}

export interface Listening {
  url: string;
  /** On how many connections something was asked: Node opens some in advance. */
  connections: number;
  /** What came from the clients, or from the service where there is one; each connection's. */
  heard: string[];
  close(): Promise<void>;
}

/** Listens, and hands each connection over with its number when something comes. */
export async function listen(
  serve: (client: net.Socket, number: number, listening: Listening) => void,
): Promise<Listening> {
  const open = new Set<net.Socket>();
  const server = net.createServer((client) => {
    open.add(client);
    client.unref();
    client.on("close", () => open.delete(client));
    client.on("error", () => undefined);
    client.once("readable", () => {
      if (client.readableLength > 0) {
        const number = listening.connections;
        listening.connections += 1;
        listening.heard.push("");
        serve(client, number, listening);
      }
    });
  });
  const listening: Listening = {
    url: "",
    connections: 0,
    heard: [],
    async close() {
      open.forEach((client) => client.destroy());
      server.close();
      await once(server, "close");
    },
  };
  // What a test that failed has left does not keep the process.
  server.unref();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  listening.url = `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`;
  return listening;
}

/** Stands before `url` and cuts the first connections, each as its entry of `cuts` says. What the service answers is heard. */
export function relay(url: string, cuts: Cut[]): Promise<Listening> {
  const { hostname, port } = new URL(url);
  return listen((client, number, listening) => {
    const cut = cuts[number];
    const service = net.connect(Number(port), hostname);
    const passed = { sent: 0, answered: 0 };
    service.unref();
    service.on("error", () => client.destroy());
    service.on("close", () => client.end());
    client.on("close", () => service.end());
    const pass = (way: Cut["way"], to: net.Socket, bytes: Buffer) => {
      passed[way] += bytes.length;
      if (way === "answered") {
        listening.heard[number] += bytes.toString("latin1");
      }
      if (cut?.way === way && passed[way] > cut.bytes) {
        client.resetAndDestroy();
        service.destroy();
      } else {
        to.write(bytes);
      }
    };
    client.on("data", (bytes) => pass("sent", service, bytes));
    service.on("data", (bytes) => pass("answered", client, bytes));
  });
}

/** Answers each request, whatever it is, with the next of these texts, the last one ever after; and closes. */
export function answering(texts: string[]): Promise<Listening> {
  let request = 0;
  return listen((client, number, listening) => {
    client.on("data", (bytes) => {
      const text = texts[Math.min(request, texts.length - 1)]!;
      // A body may come apart from its head.
      const begins = /^(POST|PUT|GET|DELETE) /.test(bytes.toString("latin1"));
      listening.heard[number] += bytes.toString("latin1");
      if (begins) {
        request += 1;
        client.end(text);
      }
    });
  });
}

/** An HTTP answer. */
export function http(status: number, body: string, head = ""): string {
  return `HTTP/1.1 ${status} Said\r\n${head}Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`;
}
