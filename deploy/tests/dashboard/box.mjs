// A box of one's own that proves: calderad at a socket of the operator's, a device beside the processor (the double of ICICLE's
// libraries), three tenants, a development key, a ledger; and
// `caldera dashboard` before it. All of it is real, and of the build in the folder that is given.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const run = promisify(execFile);
export const TENANTS = { exchange: "financial", rollup: "supply_chain", plaza: "social" };

export class Box {
  #programs;
  #folder = mkdtempSync(join(tmpdir(), "caldera-dashboard-"));
  #calderad = null;
  #bridge = null;
  #address = "";
  #working = true;
  #work = [];

  /** Starts a box, the three tenants' first proofs, and the bridge. */
  static async start(programs) {
    const box = new Box();
    box.#programs = resolve(programs);
    try {
      await box.#prepare();
      await box.startDaemon();
    } catch (error) {
      await box.stop();
      throw error;
    }
    return box;
  }

  async #prepare() {
    const file = (name) => this.#file(name);
    await this.#caldera("setup", "--synthetic", "2^12", "--output", file("made.zkey"));
    await this.#caldera("era", "keygen", file("node.key"));
    copyFileSync(new URL("../../era.toml", import.meta.url), file("era.toml"));
    for (const part of ["device", "field_bn254", "curve_bn254"]) {
      copyFileSync(join(this.#programs, "libcaldera_icicle_double.so"), file(`libicicle_${part}.so`));
    }
    const tenants = Object.entries(TENANTS).map(([name, scenario]) => `[[tenant]]\nname = "${name}"\nscenario = "${scenario}"\n`);
    writeFileSync(file("calderad.toml"), `listen = "127.0.0.1:0"
data = "data"
development = true
keep_witnesses = true
operator_socket = "operator.sock"
devices = ["icicle:CPU:0"]
icicle_folder = "${this.#folder}"

[era]
policy_file = "era.toml"
node_key_file = "node.key"
node_owner = 1
node_address = "0x0000000000000000000000000000000000000001"

${tenants.join("\n")}`);
  }

  #file(name) {
    return join(this.#folder, name);
  }

  async #caldera(...args) {
    const { stdout } = await run(join(this.#programs, "caldera"), args, { maxBuffer: 1 << 26 });
    return stdout;
  }

  #account(name) {
    const url = name === "operator" ? `unix:${this.#file("operator.sock")}` : `http://${this.#address}`;
    return ["--url", url, "--tenant", name, "--secret-file", this.#file(`data/secrets/${name}.hex`)];
  }

  /** The first line that a program prints. */
  async #begin(program, ...args) {
    const child = spawn(join(this.#programs, program), args, { stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    child.stderr.on("data", (text) => { said = (said + text).slice(-20_000); });
    for await (const line of createInterface({ input: child.stdout })) return { child, line };
    throw new Error(`${program} did not start:\n${said}`);
  }

  async startDaemon() {
    const { child, line } = await this.#begin("calderad", "--config", this.#file("calderad.toml"));
    this.#calderad = child;
    this.#address = line.replace("calderad listening on ", "");
    assert.notEqual(this.#address, line, line);
  }

  /** Kills the box as a machine does that has no memory left. */
  async killDaemon() {
    const gone = new Promise((done) => this.#calderad.once("exit", done));
    this.#calderad.kill("SIGKILL");
    await gone;
    this.#calderad = null;
  }

  /** One proof of a tenant's; its job. */
  async prove(tenant) {
    const files = [this.#file("made.zkey"), this.#file("made.wtns"), this.#file(`${tenant}.proof`), this.#file(`${tenant}.public`)];
    const told = await this.#caldera("--json", "submit", ...files, ...this.#account(tenant));
    return JSON.parse(told).job;
  }

  /** Has tenants prove one proof after another, until `rest`. */
  work(...tenants) {
    this.#working = true;
    this.#work = tenants.map(async (tenant) => {
      while (this.#working) await this.prove(tenant);
    });
    // What fails is told by `rest`, and not while something else is being told.
    for (const work of this.#work) work.catch(() => {});
  }

  async rest() {
    this.#working = false;
    await Promise.all(this.#work.splice(0));
  }

  /** Starts `caldera dashboard`; its URL. */
  async bridge() {
    const { child, line } = await this.#begin("caldera", "dashboard", ...this.#account("operator"));
    this.#bridge = child;
    return line;
  }

  async stop() {
    this.#working = false;
    for (const child of [this.#bridge, this.#calderad]) {
      if (!child || child.exitCode !== null || child.signalCode !== null) continue;
      const gone = new Promise((done) => child.once("exit", done));
      child.kill("SIGKILL");
      await gone;
    }
    await Promise.allSettled(this.#work);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
