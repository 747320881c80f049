// The dashboard as an operator meets it, in a real browser, on a box that proves: node walk.mjs PROGRAMS CHROMIUM [PICTURES]
//
//   PROGRAMS   a folder with caldera and calderad
//   CHROMIUM   a browser
//   PICTURES   a folder for screenshots
//
// Everything that is waited for is waited for until it is so; the time-out only ends a run that would never end.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { chromium } from "playwright-core";

import { Box } from "./box.mjs";

const NEVER_MS = 110_000;
const [programs, executablePath, pictures] = process.argv.slice(2);
const owner = "plaza";
const box = await Box.start(programs);
let job;
for (const tenant of ["exchange", "rollup", owner]) job = await box.prove(tenant);
const url = await box.bridge();
const { origin } = new URL(url);

const profile = mkdtempSync(join(tmpdir(), "caldera-chromium-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  timeout: NEVER_MS,
  viewport: { width: 1280, height: 900 },
  colorScheme: "light",
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});
context.setDefaultTimeout(NEVER_MS);
const page = context.pages()[0] ?? (await context.newPage());

const strangers = [];
const complaints = [];
context.on("request", (request) => {
  if (new URL(request.url()).origin !== origin) strangers.push(request.url());
});
page.on("console", (message) => {
  if (["error", "warning"].includes(message.type())) complaints.push(message.text());
});
page.on("pageerror", (error) => complaints.push(String(error)));

const passed = [];
async function check(name, body) {
  await body();
  passed.push(name);
}
const picture = async (name) => {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
};
/** Asks the page until it answers with something true. Not by Playwright's own, which the page's policy forbids to compile code. */
async function until(body, argument) {
  for (const end = Date.now() + NEVER_MS; Date.now() < end; ) {
    const value = await page.evaluate(body, argument);
    if (value) return value;
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error(`never: ${body}`);
}
const styleOf = (selector, property) => page.$eval(selector, (it, name) => getComputedStyle(it).getPropertyValue(name), property);

try {
  await page.goto(url);

  await check("it goes live", async () => {
    await until(() => document.body.dataset.link === "live" && document.getElementById("link").textContent === "Live");
  });

  await check("the map shows who owns each core", async () => {
    box.work(owner, "rollup");
    const label = await until((name) => document.querySelector(`.unit[data-owner="${name}"]`)?.getAttribute("aria-label"), owner);
    assert.match(label, new RegExp(`^core \\d+: held by ${owner} for [\\d.]+ (µs|ms|s|min), (busy|idle)`));
    assert.equal(await page.getAttribute("#map", "role"), "grid");
    const cells = await page.$$eval("#map .unit", (all) => all.map((it) => [it.getAttribute("role"), it.parentElement.getAttribute("role")]));
    for (const roles of cells) assert.deepEqual(roles, ["gridcell", "row"]);
  });

  async function lineIsAt100ms() {
    const { from, to, top, height, text } = await until(() => {
      const chart = document.getElementById("reallocation-chart");
      const line = chart.querySelector(".limit");
      if (!line) return null;
      const over = chart.querySelector(".u-over").getBoundingClientRect();
      return {
        from: Number(chart.dataset.fromMs), to: Number(chart.dataset.toMs),
        top: line.getBoundingClientRect().top - over.top, height: over.height, text: line.textContent,
      };
    });
    assert.equal(text, "100 ms");
    // By the definition of a logarithmic scale, and not by what drew it.
    const expected = height * (Math.log10(to) - 2) / (Math.log10(to) - Math.log10(from));
    assert.ok(Math.abs(top - expected) < 1.5, `expected the line at ${expected} of ${height}, got ${top}`);
  }
  await check("the line is at 100 ms", async () => {
    await lineIsAt100ms();
    assert.match(await page.getAttribute("#reallocation-chart", "aria-label"), /line at 100 ms\. .*p99/);
  });

  await check("figures have units, and rows are there", async () => {
    for (const [rows, pattern] of [
      ["#queue-rows", /\d %/], ["#byte-rows", /(B|KiB|MiB)/], ["#cause-rows", /\d+(\.\d+)? (µs|ms|s)/], ["#device-rows", /works0---.*works[\d.,]+ (KiB|MiB)0 B/],
    ]) {
      await until(({ rows, source }) => new RegExp(source).test(document.querySelector(rows).textContent), { rows, source: pattern.source });
    }
    assert.match(await page.textContent("#era-figures"), /Open epoch/);
    // On a machine with other work there may have been misses: they are listed if some were counted, and only then.
    const { missed, listed } = await page.evaluate(() => {
      const rows = Array.from(document.getElementById("cause-rows").rows);
      return {
        missed: rows.reduce((sum, row) => sum + Number(row.cells[3].textContent), 0),
        listed: document.getElementById("miss-rows").textContent,
      };
    });
    assert.equal(listed === "None.", missed === 0, `${missed} missed, listed: ${listed}`);
    // Every column has its header, and every row its own.
    const bare = await page.$$eval("table", (tables) => tables.flatMap((table) => {
      const columns = table.tHead.rows[0].cells.length;
      const heads = Array.from(table.tHead.rows[0].cells);
      const rows = Array.from(table.tBodies[0].rows);
      const wrong = rows.filter((row) => !row.querySelector("td.empty") && (row.cells.length !== columns || !row.querySelector('th[scope="row"]')));
      return heads.every((it) => it.scope === "col") && !wrong.length ? [] : [table.tBodies[0].id];
    }));
    // A job's first cell is a button within the row's header.
    assert.deepEqual(bare, []);
  });

  await check("a snapshot comes after another", async () => {
    const up = await page.textContent("#box");
    await until((text) => document.getElementById("box").textContent !== text, up);
  });

  await picture("light");
  await box.rest();

  await check("by keyboard: to the map, along it, to a job and back to the theme", async () => {
    await page.evaluate(() => document.activeElement?.blur());
    const focused = () => page.evaluate(() => {
      const it = document.activeElement;
      return { id: it.id, kind: it.className, label: it.getAttribute("aria-label") ?? it.textContent };
    });
    await page.keyboard.press("Tab");
    assert.equal((await focused()).kind, "skip");
    await page.keyboard.press("Tab");
    assert.equal((await focused()).id, "theme");
    await page.keyboard.press("Tab");
    const first = await focused();
    assert.match(first.kind, /^unit/);
    const units = await page.locator("#map .unit").count();
    if (units > 1) {
      await page.keyboard.press("ArrowRight");
      assert.notEqual((await focused()).label, first.label);
      await page.keyboard.press("Home");
      assert.match((await focused()).kind, /^unit/);
    }
    // The map takes one stop; what follows is reached by Tab alone.
    const seen = [];
    for (let press = 0; press < 60 && !seen.includes("job"); press += 1) {
      await page.keyboard.press("Tab");
      seen.push((await focused()).id);
    }
    assert.ok(seen.includes("job"), `the field for a job is not reached: ${seen}`);
    assert.ok(!(await focused()).kind.includes("unit"));
    await page.keyboard.insertText(job);
    await page.keyboard.press("Enter");
    await until((name) => document.getElementById("timeline-status").textContent.startsWith(`${name}, proved: `), job);
  });

  await check("the job's timeline is drawn by stage and by unit", async () => {
    assert.match(await page.textContent("#timeline-status"), /: [\d,]+ quanta on core \d/);
    const colours = await page.$eval("#timeline", (canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const found = new Set();
      for (let at = 0; at < data.length; at += 4) if (data[at + 3] === 255) found.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
      return found.size;
    });
    assert.ok(colours >= 3, `expected several kernels in colour, got ${colours}`);
    await page.click("#stages summary");
    const stages = await page.locator("#stage-rows tr").count();
    assert.ok(stages > 5, `${stages} stages`);
    assert.match(await page.textContent("#stage-rows"), /msm/);
  });

  await check("a job that is not there is said to be unknown", async () => {
    await page.fill("#job", "0x00000000000000ff");
    // A browser writes what is not 2xx into its console; that line is expected here and nowhere else.
    await page.click("#choose button");
    await until(() => document.getElementById("timeline-status").textContent.startsWith("No timeline of 0x00000000000000ff: "));
    const expected = complaints.splice(0).filter((text) => !/status of 404/.test(text));
    assert.deepEqual(expected, []);
    await page.fill("#job", job);
    await page.click("#choose button");
    await until((name) => document.getElementById("timeline-status").textContent.startsWith(`${name}, proved: `), job);
  });

  await check("light and dark: by the system, and by the button", async () => {
    const paper = () => styleOf("body", "background-color");
    const light = await paper();
    await page.emulateMedia({ colorScheme: "dark" });
    const dark = await paper();
    assert.notEqual(light, dark);
    await lineIsAt100ms();
    await picture("dark");
    const button = page.locator("#theme");
    assert.equal(await button.textContent(), "Theme: system");
    await button.click();
    assert.equal(await button.textContent(), "Theme: light");
    assert.equal(await paper(), light);
    await button.click();
    assert.equal(await button.textContent(), "Theme: dark");
    await page.emulateMedia({ colorScheme: "light" });
    assert.equal(await paper(), dark);
    // It is kept for the next time.
    await page.reload();
    await until(() => document.body.dataset.link === "live");
    assert.equal(await paper(), dark);
    await page.locator("#theme").click();
    assert.equal(await paper(), light);
  });

  await check("text stands out from its ground in both schemes", async () => {
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      const ratios = await page.evaluate(() => {
        const style = getComputedStyle(document.documentElement);
        const light = (name) => {
          const hex = style.getPropertyValue(name).trim().slice(1);
          const [r, g, b] = [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
            .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        return ["--ink", "--quiet", "--accent"].flatMap((text) => ["--paper", "--surface"].map((ground) => [text, ground, ratio(light(text), light(ground))]));
      });
      // WCAG 2.2, 1.4.3.
      for (const [text, ground, ratio] of ratios) assert.ok(ratio >= 4.5, `${colorScheme}: ${text} on ${ground}: ${ratio}`);
    }
    await page.emulateMedia({ colorScheme: "light" });
  });

  await check("360 pixels are enough, without scrolling sideways", async () => {
    await page.setViewportSize({ width: 360, height: 780 });
    await page.fill("#job", job);
    await page.click("#choose button");
    await until((name) => document.getElementById("timeline-status").textContent.startsWith(`${name}, proved: `), job);
    await until(() => document.querySelector("#reallocation-chart .uplot").getBoundingClientRect().width <= 360);
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 360, `the page is ${width} pixels wide`);
    await lineIsAt100ms();
    await picture("narrow");
    await page.setViewportSize({ width: 1280, height: 900 });
  });

  await check("nothing but this origin was asked, and the browser complains of nothing", async () => {
    assert.deepEqual(strangers, []);
    assert.deepEqual(complaints, []);
  });

  await check("a box that goes away is said to, and its figures stay", async () => {
    await box.killDaemon();
    await until(() => document.body.dataset.link === "lost");
    assert.match(await page.textContent("#link"), /^Disconnected, trying again\. Figures are of /);
    assert.ok((await page.locator("#map .unit").count()) > 0);
    await picture("lost");
  });

  await check("it comes back by itself", async () => {
    await box.startDaemon();
    await until(() => document.body.dataset.link === "live");
    assert.deepEqual(strangers, []);
  });

  console.log(`${passed.length} checks: ${passed.join("; ")}`);
} catch (error) {
  console.error(`after: ${passed.join("; ")}\nthe browser said: ${complaints.join("\n")}`);
  throw error;
} finally {
  await context.close();
  await box.stop();
  rmSync(profile, { recursive: true, force: true });
}
