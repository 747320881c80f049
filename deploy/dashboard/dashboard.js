// The operator's dashboard: one stream of snapshots in, plain DOM out.
//
// A snapshot comes once a second (deploy/node/src/service/dashboard.rs) and holds all that is shown but the profile of a job,
// which is asked for when one is chosen. Each part of the page has a function that makes it so from a snapshot; what has
// not changed is not touched, so that a selection, a focus and a screen reader stay where they are. Nothing here changes the box.
//
// The stream's end is shown, never hidden: figures stay and are dimmed, and the stream is asked for anew until it is there.
"use strict";
(() => {
  const HISTORY = 300; // snapshots that the chart of cores goes back: five minutes
  const RETRY_MS = 2000;
  const LATE_MS = 5000; // a snapshot is missed after so long
  const COLOURS = 7; // of the scale in style.css
  const PAGES_MAX = 400; // of a profile: some hundred thousand quanta

  const byId = (id) => document.getElementById(id);
  const root = document.documentElement;

  /** Makes an element. */
  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) put(node, name, value);
    node.append(...children);
    return node;
  }

  /** Sets an attribute, or takes it away with null; does nothing if it is so already. */
  function put(node, name, value) {
    if (value === null || value === undefined || value === false) {
      if (node.hasAttribute(name)) node.removeAttribute(name);
    } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
  }

  function say(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  /** Makes the children of a node those of a list, each known by a key: `fill` writes into what is there. */
  function keep(parent, list, key, create, fill) {
    const there = new Map(Array.from(parent.children, (child) => [child.dataset.key, child]));
    let at = parent.firstElementChild;
    for (const item of list) {
      const name = String(key(item));
      let node = there.get(name);
      if (node) there.delete(name);
      else {
        node = create(item);
        node.dataset.key = name;
      }
      fill(node, item);
      if (node === at) at = at.nextElementSibling;
      else parent.insertBefore(node, at);
    }
    for (const node of there.values()) node.remove();
  }

  /** Rows of a table. A row is `{ key, group?, cells }`; a cell `{ text, node?, head?, n?, bad?, wrap? }` or a text. */
  function table(body, rows, nothing) {
    const columns = body.closest("table").tHead.rows[0].cells.length;
    const list = rows.length ? rows : [{ key: "nothing", nothing }];
    keep(body, list, (row) => row.key, () => make("tr"), (tr, row) => {
      if (row.nothing) {
        if (!tr.firstChild) tr.append(make("td", { class: "empty", colspan: columns }));
        say(tr.firstChild, row.nothing);
        return;
      }
      put(tr, "class", row.kind);
      put(tr, "aria-current", row.current ? "true" : null);
      row.cells.forEach((cell, at) => {
        const it = typeof cell === "object" ? cell : { text: cell };
        let td = tr.cells[at];
        if (!td) {
          td = it.head ? make("th", { scope: "row" }) : make("td");
          tr.append(td);
        }
        put(td, "class", [it.n && "n", it.bad && "bad", it.wrap && "wrap"].filter(Boolean).join(" ") || null);
        if (it.node) {
          if (!td.firstChild) td.append(it.node());
          if (it.fill) it.fill(td);
        } else say(td, it.text);
      });
    });
  }

  // Figures with their units.

  const digits = (value, places) => value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
  const count = (value) => Number(value).toLocaleString("en");
  const percent = (value) => `${digits(value, value < 9.95 && value > 0 ? 1 : 0)} %`;

  function span(ms) {
    if (ms === null || ms === undefined) return "-";
    const size = Math.abs(ms);
    if (size < 0.9995) return `${digits(ms * 1000, size < 0.00995 ? 1 : 0)} µs`;
    if (size < 999.5) return `${digits(ms, size < 9.995 ? 2 : size < 99.95 ? 1 : 0)} ms`;
    if (size < 119_500) return `${digits(ms / 1000, size < 9995 ? 2 : 1)} s`;
    if (size < 7_170_000) return `${digits(ms / 60_000, 0)} min`;
    if (size < 172_000_000) return `${digits(ms / 3_600_000, 1)} h`;
    return `${digits(ms / 86_400_000, 1)} d`;
  }

  function bytes(value) {
    if (value < 1024) return `${count(value)} B`;
    const units = ["KiB", "MiB", "GiB", "TiB"];
    let size = value;
    let unit = -1;
    while (size >= 1023.5 && unit < units.length - 1) {
      size /= 1024;
      unit += 1;
    }
    return `${digits(size, size < 9.95 ? 1 : 0)} ${units[unit]}`;
  }

  // The scale of tenants: by their place in the box's list, which never changes while it runs.

  const places = new Map();
  function place(tenant) {
    return places.get(tenant) ?? 0;
  }
  function colour(at) {
    return getComputedStyle(root).getPropertyValue(`--t${at % COLOURS}`).trim();
  }
  function token(name) {
    return getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  }
  function mark(node, tenant) {
    put(node, "data-colour", tenant === null ? null : place(tenant) % COLOURS);
    node.classList.toggle("hatched", tenant !== null && place(tenant) >= COLOURS);
  }
  function swatch(tenant) {
    const node = make("span", { class: "swatch", "aria-hidden": "true" });
    mark(node, tenant);
    return node;
  }

  // The theme: the system's, or what was chosen in this browser.

  const THEMES = ["system", "light", "dark"];
  let theme = "system";
  try {
    theme = THEMES.find((it) => it === localStorage.getItem("caldera-theme")) ?? theme;
  } catch {
    // A browser that keeps nothing is asked again next time.
  }
  function wear(next) {
    theme = next;
    put(root, "data-theme", theme === "system" ? null : theme);
    say(byId("theme"), `Theme: ${theme}`);
    try {
      localStorage.setItem("caldera-theme", theme);
    } catch {
      // As above.
    }
    redraw();
  }
  byId("theme").addEventListener("click", () => wear(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());

  // The stream.

  let now = null; // the newest snapshot
  let before = null; // the one before it, of the same box
  let arrived = 0; // when it did, by this browser's clock
  let link = "connecting";

  function connect() {
    const source = new EventSource("stream");
    source.addEventListener("snapshot", (event) => {
      const snapshot = JSON.parse(event.data);
      // A box that was started anew has been up for less than before.
      before = now && now.pool.upMs < snapshot.pool.upMs ? now : null;
      now = snapshot;
      arrived = performance.now();
      show();
      tell();
    });
    source.addEventListener("error", () => {
      link = "lost";
      tell();
      // Where the answer was no stream the browser does not ask again by itself.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY_MS);
    });
    source.addEventListener("open", () => {
      arrived = performance.now();
      link = now ? "live" : "connecting";
      tell();
    });
  }

  /** Says how things stand between the box and this page. */
  function tell() {
    const age = performance.now() - arrived;
    if (link !== "lost") link = now === null ? "connecting" : age > LATE_MS ? "late" : "live";
    put(document.body, "data-link", link);
    const at = now && new Date(now.atMs).toLocaleTimeString();
    say(byId("link"), {
      connecting: "Connecting to the box",
      live: "Live",
      late: `No news since ${at}`,
      lost: now ? `Disconnected, trying again. Figures are of ${at}` : "The box cannot be reached, trying again",
    }[link]);
  }

  // What is shown.

  const history = { tenants: "", times: [], parts: [] };

  function show() {
    const { pool } = now;
    pool.tenants.forEach((it, at) => places.set(it.tenant, at));
    say(byId("box"), `calderad ${now.version}, up ${span(pool.upMs)}`);
    const notes = byId("notes");
    put(notes, "hidden", now.notes.length === 0 ? "" : null);
    keep(notes, now.notes, (note) => note, () => make("li"), (li, note) => say(li, note));
    remember();
    showFigures();
    showMap();
    showQueues();
    showBytes();
    showReallocations();
    showDevices();
    showJobs();
    showEra();
    drawUtilisation();
    drawReallocations();
  }

  function cores() {
    return now.pool.units.filter((unit) => !unit.device);
  }

  /** What part of all cores a tenant has had since the snapshot before. */
  function had(tenant) {
    const then = before?.pool.tenants.find((it) => it.tenant === tenant.tenant)?.detail;
    if (!tenant.detail || !then) return null;
    const all = (now.pool.upMs - before.pool.upMs) * cores().length;
    return all > 0 ? Math.min(100, Math.max(0, (100 * (tenant.detail.coreMs - then.coreMs)) / all)) : null;
  }

  /** Keeps what tenants have had, for the chart. */
  function remember() {
    const { tenants } = now.pool;
    const names = JSON.stringify(tenants.map((it) => it.tenant));
    if (names !== history.tenants) Object.assign(history, { tenants: names, times: [], parts: tenants.map(() => []) });
    if (!before) return;
    history.times.push(now.atMs / 1000);
    tenants.forEach((it, at) => history.parts[at].push(had(it) ?? 0));
    if (history.times.length > HISTORY) for (const list of [history.times, ...history.parts]) list.shift();
  }

  /** A name, a figure, and what it is of. */
  function figures(list, items) {
    keep(list, items, (it) => it.name, () => make("div", {}, make("dt"), make("dd"), make("dd")), (div, it) => {
      put(div, "class", it.bad ? "bad" : null);
      const [dt, dd, of] = div.children;
      say(dt, it.name);
      say(dd, it.figure);
      say(of, it.of ?? "");
    });
  }

  function showFigures() {
    const { pool, ended } = now;
    const all = cores();
    const held = all.filter((unit) => unit.owner).length;
    const parts = pool.tenants.map(had);
    const work = parts.every((part) => part === null) ? null : parts.reduce((sum, part) => sum + (part ?? 0), 0);
    const waiting = pool.tenants.reduce((sum, it) => sum + it.queued, 0);
    const running = pool.tenants.reduce((sum, it) => sum + it.running, 0);
    const { reallocations, quanta } = pool;
    figures(byId("figures"), [
      { name: "Cores held", figure: `${held} of ${all.length}`, of: pool.units.length > all.length ? `and ${pool.units.length - all.length} devices` : "" },
      { name: "Cores at work", figure: work === null ? "-" : percent(work), of: "in the last second" },
      { name: "Jobs waiting", figure: count(waiting), of: `${count(running)} running` },
      { name: "Reallocation, p99", figure: reallocations.count ? span(reallocations.p99Us / 1000) : "-", of: `of ${count(reallocations.count)} since the start` },
      { name: `Over ${span(now.boundMs)}`, figure: count(reallocations.missed), of: "reallocations missed", bad: reallocations.missed > 0 },
      { name: "Quantum, p99", figure: quanta.count ? span(quanta.p99Us / 1000) : "-", of: `${count(quanta.overBudget)} of ${count(quanta.count)} over budget` },
      { name: "Proofs", figure: count(ended.proved), of: `${count(ended.late)} late, ${count(ended.failed)} failed`, bad: ended.failed > 0 },
    ]);
  }

  // The map: a grid of two rows, cores and devices, of which one cell can be reached by Tab.

  const map = byId("map");

  function showMap() {
    const fenced = new Set(now.fenced);
    const kinds = [
      { name: "Cores", units: now.pool.units.filter((unit) => !unit.device) },
      { name: "Devices", units: now.pool.units.filter((unit) => unit.device) },
    ].filter((kind) => kind.units.length);
    keep(map, kinds, (kind) => kind.name, (kind) => make("div", { role: "row" }, make("div", { role: "rowheader" }, kind.name)), (row, kind) => {
      const cells = [{ unit: "head" }, ...kind.units];
      row.firstElementChild.dataset.key = "head";
      keep(row, cells, (unit) => unit.unit, makeUnit, (cell, unit) => {
        if (unit.unit !== "head") fillUnit(cell, unit, fenced.has(unit.unit));
      });
    });
    if (!map.querySelector('[tabindex="0"]')) put(map.querySelector(".unit"), "tabindex", 0);
    const legend = byId("tenants-legend");
    keep(legend, now.pool.tenants, (it) => it.tenant, (it) => make("li", {}, swatch(it.tenant), make("span")), (li, it) => {
      say(li.lastElementChild, `${it.tenant} (${it.scenario})`);
    });
  }

  function makeUnit() {
    const part = (name) => make("span", { class: name, "aria-hidden": "true" });
    return make("div", { role: "gridcell", tabindex: -1, class: "unit" }, part("where"), part("who"), part("what"));
  }

  function fillUnit(cell, unit, fenced) {
    const owner = unit.owner ?? null;
    const where = unit.device ?? `core ${unit.core}`;
    const doing = fenced ? "does not answer" : owner === null ? "nobody's" : unit.busy ? "busy" : "idle";
    mark(cell, owner);
    cell.classList.toggle("busy", owner !== null && Boolean(unit.busy));
    cell.classList.toggle("free", owner === null);
    cell.classList.toggle("fenced", fenced);
    put(cell, "data-job", unit.job ?? null);
    put(cell, "data-owner", owner ?? "");
    const [at, who, what] = cell.children;
    say(at, where);
    say(who, owner ?? "free");
    say(what, owner === null ? doing : `${doing}, ${span(unit.sinceMs)}`);
    put(cell, "aria-label", `${where}: ${owner === null ? "free" : `held by ${owner} for ${span(unit.sinceMs)}, ${doing}`}${unit.job ? `, job ${unit.job}` : ""}`);
    put(cell, "title", `unit ${unit.unit}, ${where}, thread ${unit.threadId}, ${unit.policy}${unit.job ? `\njob ${unit.job}` : ""}`);
  }

  /** The cell to which a key leads; up and down go by what is drawn above and below. */
  function neighbour(cell, key) {
    const cells = Array.from(map.querySelectorAll(".unit"));
    const at = cells.indexOf(cell);
    const row = Array.from(cell.parentElement.querySelectorAll(".unit"));
    if (key === "ArrowRight") return cells[at + 1];
    if (key === "ArrowLeft") return cells[at - 1];
    if (key === "Home") return row[0];
    if (key === "End") return row.at(-1);
    const here = cell.getBoundingClientRect();
    const middle = (box) => Math.abs(box.left - here.left);
    const down = key === "ArrowDown";
    const beyond = cells
      .map((it) => ({ it, box: it.getBoundingClientRect() }))
      .filter(({ box }) => (down ? box.top > here.top + 1 : box.top < here.top - 1));
    const line = beyond.map(({ box }) => box.top).reduce((a, b) => (down ? Math.min(a, b) : Math.max(a, b)), down ? Infinity : -Infinity);
    const there = beyond.filter(({ box }) => Math.abs(box.top - line) < 1);
    there.sort((a, b) => middle(a.box) - middle(b.box));
    return there[0]?.it;
  }

  map.addEventListener("keydown", (event) => {
    const cell = event.target.closest(".unit");
    if (!cell) return;
    if (event.key === "Enter" && cell.dataset.job) choose(cell.dataset.job);
    else if (["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) {
      neighbour(cell, event.key)?.focus();
    } else return;
    event.preventDefault();
  });
  map.addEventListener("focusin", (event) => {
    for (const cell of map.querySelectorAll('[tabindex="0"]')) put(cell, "tabindex", -1);
    const cell = event.target.closest(".unit");
    if (cell) put(cell, "tabindex", 0);
  });
  map.addEventListener("click", (event) => {
    const cell = event.target.closest(".unit[data-job]");
    if (cell) choose(cell.dataset.job);
  });

  function showQueues() {
    const groups = new Map();
    for (const it of now.pool.tenants) {
      const name = it.scenario ?? "";
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(it);
    }
    const rows = [];
    const sum = (list, of) => list.reduce((total, it) => total + (of(it) ?? 0), 0);
    const row = (key, kind, name, list) => {
      const slacks = list.map((it) => it.detail?.slackMs).filter((it) => typeof it === "number");
      const slack = slacks.length ? Math.min(...slacks) : null;
      const parts = list.map(had);
      const preparing = sum(list, (it) => it.detail?.preparing);
      const declared = sum(list, (it) => it.declared);
      const remarks = [
        declared > 0 && `declared ${declared}`,
        list.some((it) => it.peak) && "at a peak",
        list.some((it) => it.detail?.lends) && "lends",
      ];
      rows.push({
        key,
        kind,
        cells: [
          { head: true, ...name },
          { n: true, text: count(sum(list, (it) => it.queued) - preparing) },
          { n: true, text: count(preparing) },
          { n: true, text: count(sum(list, (it) => it.running)) },
          { n: true, text: count(sum(list, (it) => it.cores)) },
          { n: true, text: count(sum(list, (it) => it.detail?.wants)) },
          { n: true, text: list[0].detail ? percent(list[0].detail.guaranteePercent) : "-" },
          { n: true, text: parts.every((part) => part === null) ? "-" : percent(parts.reduce((total, part) => total + (part ?? 0), 0)) },
          { n: true, text: slack === null ? "-" : span(slack), bad: slack !== null && slack < 0 },
          remarks.filter(Boolean).join(", "),
        ],
      });
    };
    for (const [scenario, list] of [...groups].sort(([a], [b]) => a.localeCompare(b))) {
      row(`scenario ${scenario}`, "group", { text: scenario }, list);
      for (const it of list) {
        const named = { node: () => make("span", {}, swatch(it.tenant), it.tenant) };
        row(`tenant ${it.tenant}`, "member", named, [it]);
      }
    }
    table(byId("queue-rows"), rows, "This box has no tenants.");
  }

  function showBytes() {
    const jobs = new Map(now.pool.tenants.map((it) => [it.tenant, it.detail?.jobBytes ?? 0]));
    const rows = now.storage.map((it) => ({
      key: `${it.tenant} ${it.quiet}`,
      cells: [
        { head: true, node: () => make("span", {}, swatch(it.tenant), it.quiet ? `${it.tenant}, gives back` : it.tenant) },
        { n: true, text: bytes(jobs.get(it.tenant) ?? 0) },
        { n: true, text: bytes(it.tablesBytes) },
        { n: true, text: bytes(it.keysBytes) },
        { n: true, text: bytes(it.blobsBytes) },
      ],
    }));
    table(byId("byte-rows"), rows, "This box has no tenants.");
    const bound = now.jobBytesMax === null ? "" : ` of ${bytes(now.jobBytesMax)}`;
    const held = [...jobs.values()].reduce((total, it) => total + it, 0);
    say(byId("bytes-now"), `Jobs under way hold ${bytes(held)}${bound} of memory. Tables take ${bytes(now.tablesBytes)} of the ${bytes(now.tablesBytesMax)} of memory that they may have.`);
  }

  function unitName(number) {
    const unit = now.pool.units.find((it) => it.unit === number);
    return unit ? (unit.device ?? `core ${unit.core}`) : `unit ${number}`;
  }

  function showReallocations() {
    const { causes, misses } = now.pool.reallocations;
    const of = (text) => ({ n: true, text });
    const time = (us) => ({ n: true, text: span(us / 1000), bad: us / 1000 > now.boundMs });
    table(byId("cause-rows"), causes.map((it) => ({
      key: `${it.resource} ${it.cause}`,
      cells: [{ head: true, text: it.cause }, it.resource, of(count(it.count)), { n: true, text: count(it.missed), bad: it.missed > 0 }, time(it.p50Us), time(it.p99Us), time(it.p999Us), time(it.maxUs)],
    })), "No unit has changed hands yet.");
    say(byId("misses-bound"), `over ${span(now.boundMs)}`);
    table(byId("miss-rows"), [...misses].reverse().map((it, at) => ({
      key: `${at} ${it.unit} ${it.totalUs}`,
      cells: [
        { head: true, text: `${unitName(it.unit)}, ${it.from ?? "nobody"} to ${it.to}` },
        { n: true, text: span(it.totalUs / 1000), bad: true },
        of(span(it.detectUs / 1000)), of(span(it.decideUs / 1000)), of(span(it.drainUs / 1000)), of(span(it.firstUs / 1000)),
      ],
    })), "None.");
  }

  function showDevices() {
    // The processor comes first, then each unit that is a device.
    const units = [undefined, ...now.pool.units.filter((unit) => unit.device)];
    const memory = (value) => ({ n: true, text: value === undefined ? "-" : bytes(value) });
    table(byId("device-rows"), now.pool.devices.map((it, at) => ({
      // Two may have one name.
      key: `${at} ${it.name}`,
      cells: [
        { head: true, text: [it.name, ...(it.pci ? [it.pci] : []), ...(it.software ?? []).map((part) => `${part.name} ${part.version}`)].join(", "), wrap: true },
        it.lost ? { text: `lost: ${it.lost}`, bad: true, wrap: true } : { text: "works" },
        { n: true, text: count(it.fallenBack) },
        memory(units[at]?.keyBytes), memory(units[at]?.tableBytes), memory(units[at]?.memoryBytes),
      ],
    })), "None.");
    const { fenced, pool } = now;
    const text = fenced.length ? `Fenced off for not answering: ${fenced.map(unitName).join(", ")}.` : `All ${pool.units.length} workers answer.`;
    say(byId("workers-now"), text);
    put(byId("workers-now"), "class", fenced.length ? "bad small" : "quiet small");
  }

  function showJobs() {
    table(byId("job-rows"), now.jobs.map((it) => ({
      key: it.job,
      current: it.job === chosen,
      cells: [
        {
          head: true,
          node: () => {
            const button = make("button", { type: "button", class: "plain code" }, it.job);
            button.addEventListener("click", () => choose(it.job));
            return button;
          },
        },
        { node: () => make("span", {}, swatch(it.tenant), " ", it.tenant) },
        jobState(it),
        { n: true, text: span(it.finishedMs ?? null) },
      ],
    })), "No job has come yet.");
    const job = now.jobs.find((it) => it.job === chosen);
    // What was read while it ran is read again when it has ended.
    if (job && profile && ends(job.state) && !ends(profile.status.state)) read(chosen);
  }

  const ends = (state) => ["proved", "failed", "cancelled"].includes(state);

  function jobState(it) {
    if (it.state === "failed") return { text: `failed: ${it.error?.reason ?? "no reason given"}`, bad: true };
    if (it.state === "running") return { text: `running, ${percent(100 * it.progress)}` };
    return { text: it.late ? `${it.state}, late` : it.state, bad: Boolean(it.late) };
  }

  function showEra() {
    const { era } = now;
    put(byId("era-table"), "hidden", era && !era.damaged ? null : "");
    if (!era) {
      figures(byId("era-figures"), [{ name: "Ledger", figure: "none", of: "no [era] in this box's configuration" }]);
      return;
    }
    if (era.damaged) {
      figures(byId("era-figures"), [{ name: "Ledger", figure: "refused", of: era.damaged, bad: true }]);
      return;
    }
    figures(byId("era-figures"), [
      { name: "Open epoch", figure: count(era.epoch) },
      { name: "Parties", figure: count(era.parties) },
      { name: "Records", figure: count(era.records) },
      { name: "Proofs written down", figure: count(era.proofs), of: "since the start" },
      { name: "Failures", figure: count(era.failures), of: "since the start" },
      { name: "Releases", figure: count(era.releases), of: "since the start" },
      { name: "Reuses", figure: count(era.reuses), of: "since the start" },
      { name: "Refused", figure: count(era.refused), of: "since the start" },
    ]);
    table(byId("era-rows"), era.house.map((it) => ({
      key: it.account,
      cells: [{ head: true, text: it.account }, { n: true, text: it.units.replace(/\B(?=(\d{3})+$)/g, " ") }],
    })), "None.");
  }

  // Charts, by uPlot. Colours are read from the style when one is made, so another theme makes it anew.

  const charts = { utilisation: null, reallocation: null };

  function redraw() {
    for (const name of Object.keys(charts)) {
      charts[name]?.plot.destroy();
      charts[name] = null;
    }
    if (now) {
      drawUtilisation();
      drawReallocations();
    }
    if (profile) drawTimeline();
  }

  function axis(more) {
    return {
      stroke: token("quiet"), font: `12px ${getComputedStyle(document.body).fontFamily}`,
      grid: { stroke: token("rule"), width: 1 }, ticks: { stroke: token("rule"), width: 1, size: 4 }, ...more,
    };
  }

  /** A chart of that kind: what there is, or made anew if `key` says that it must have another shape. */
  function chart(name, holder, key, options, data) {
    const there = charts[name];
    if (there?.key === key) {
      there.plot.setData(data);
      return there.plot;
    }
    there?.plot.destroy();
    const size = { width: holder.clientWidth, height: holder.clientHeight };
    const plot = new uPlot({ ...size, legend: { show: false }, cursor: { show: false }, padding: [8, 8, 0, 0], ...options() }, data, holder);
    charts[name] = { key, plot };
    return plot;
  }

  for (const name of Object.keys(charts)) {
    const holder = byId(`${name}-chart`);
    new ResizeObserver(() => charts[name]?.plot.setSize({ width: holder.clientWidth, height: holder.clientHeight })).observe(holder);
  }

  const clockTime = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

  function drawUtilisation() {
    const holder = byId("utilisation-chart");
    const names = now.pool.tenants.map((it) => it.tenant);
    // Each line is the sum of its own part and all after it, painted from the highest down: areas that lie on one another.
    const sums = history.parts.map(() => []);
    for (let at = 0; at < history.times.length; at += 1) {
      let sum = 0;
      for (let tenant = names.length - 1; tenant >= 0; tenant -= 1) {
        sum += history.parts[tenant][at];
        sums[tenant][at] = sum;
      }
    }
    chart("utilisation", holder, `${history.tenants} ${root.dataset.theme} ${matchMedia("(prefers-color-scheme: dark)").matches}`, () => ({
      scales: { x: { time: true, range: () => {
        const end = history.times.at(-1) ?? now.atMs / 1000;
        return [end - HISTORY, end];
      } }, y: { range: [0, 100] } },
      axes: [axis({ size: 30, incrs: [60, 120], values: (_, ticks) => ticks.map(clockTime) }), axis({ size: 44, values: (_, ticks) => ticks.map((tick) => `${tick} %`) })],
      series: [{}, ...names.map((_, at) => ({ stroke: colour(at), width: 1, fill: colour(at), points: { show: false } }))],
    }), [history.times, ...sums]);
    const parts = now.pool.tenants.map((it) => [it.tenant, had(it)]).filter(([, part]) => part !== null && part >= 0.5);
    const text = parts.length ? parts.map(([tenant, part]) => `${tenant} ${percent(part)}`).join(", ") : "No core is at work.";
    say(byId("utilisation-now"), text);
    put(holder, "aria-label", `Cores at work in the last five minutes. Now: ${text}`);
  }

  function placeLimit(plot) {
    let limit = plot.over.querySelector(".limit");
    if (!limit) {
      limit = make("div", { class: "limit" }, make("span"));
      plot.over.append(limit);
    }
    say(limit.firstElementChild, span(now.boundMs).replace(".0", ""));
    limit.style.top = `${plot.valToPos(now.boundMs, "y")}px`;
  }

  const PERCENTILES = [["p50", "p50Us"], ["p99", "p99Us"], ["p99.9", "p999Us"], ["longest", "maxUs"]];
  const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [14, 4], [4, 2]];

  function drawReallocations() {
    const holder = byId("reallocation-chart");
    const { causes } = now.pool.reallocations;
    const names = causes.map((it) => (it.resource === "core" ? it.cause : `${it.cause} (${it.resource})`));
    const top = causes.some((it) => it.maxUs > 1e6) ? 1e5 : 1e3;
    const range = [0.01, top];
    put(holder, "data-from-ms", range[0]);
    put(holder, "data-to-ms", range[1]);
    const lines = causes.map((it) => PERCENTILES.map(([, key]) => Math.max(range[0], it[key] / 1000)));
    const key = `${names} ${top} ${root.dataset.theme} ${matchMedia("(prefers-color-scheme: dark)").matches}`;
    chart("reallocation", holder, key, () => ({
      scales: { x: { time: false, range: [-0.25, 3.25] }, y: { distr: 3, range } },
      // The line's place is known when a scale has been laid out, and changes with it.
      hooks: { draw: [placeLimit] },
      axes: [
        axis({ size: 30, splits: () => [0, 1, 2, 3], values: () => PERCENTILES.map(([name]) => name), grid: { show: false } }),
        axis({ size: 58, splits: () => [0.01, 0.1, 1, 10, 100, 1000, 1e4, 1e5].filter((it) => it <= top), values: (_, ticks) => ticks.map((tick) => span(tick).replace(".00", "").replace(".0", "")) }),
      ],
      // The last has nothing: a scale needs a series, though there is no cause yet.
      series: [{}, ...names.map((_, at) => ({ stroke: colour(at), width: 2, dash: DASHES[at % DASHES.length], points: { show: true, size: 6, fill: colour(at) } })), { show: true, points: { show: false } }],
    }), [[0, 1, 2, 3], ...lines, [null, null, null, null]]);
    const legend = byId("reallocation-legend");
    keep(legend, names, (name) => `${name} ${key}`, (name) => {
      const at = names.indexOf(name);
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", "0 0 26 10");
      svg.setAttribute("aria-hidden", "true");
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      const attributes = { x1: 0, x2: 26, y1: 5, y2: 5, stroke: colour(at), "stroke-width": 2, "stroke-dasharray": DASHES[at % DASHES.length].join(" ") };
      for (const [attribute, value] of Object.entries(attributes)) line.setAttribute(attribute, value);
      svg.append(line);
      return make("li", {}, svg, name);
    }, () => {});
    const text = causes.map((it) => `${it.cause}: p99 ${span(it.p99Us / 1000)}, longest ${span(it.maxUs / 1000)}`).join("; ");
    put(holder, "aria-label", `Time of reallocations by percentile, on a logarithmic scale with a line at ${span(now.boundMs)}. ${text || "None yet."}`);
  }

  // The timeline of a job: its parts above, from the first quantum of a stage to its last; below, each quantum where it ran.

  let chosen = null; // a job
  let profile = null; // and its quanta
  const canvas = byId("timeline");

  byId("choose").addEventListener("submit", (event) => {
    event.preventDefault();
    choose(byId("job").value.trim());
  });

  function choose(job) {
    chosen = job;
    byId("job").value = job;
    if (now) showJobs();
    read(job);
    byId("timeline-status").scrollIntoView({ block: "nearest" });
  }

  async function read(job) {
    const status = byId("timeline-status");
    say(status, `Reading the profile of ${job}`);
    try {
      let all = null;
      let from = "";
      for (let page = 0; page < PAGES_MAX; page += 1) {
        const answer = await fetch(`jobs/${encodeURIComponent(job)}${from}`);
        const told = await answer.json().catch(() => null);
        if (!answer.ok) throw new Error(told?.error?.message ?? `the box answers with status ${answer.status}`);
        if (job !== chosen) return;
        if (all) all.quanta.push(...told.quanta);
        else all = told;
        all.status = told.status;
        all.total = told.total;
        if (told.next === null || told.next === undefined) break;
        from = `?from=${told.next}`;
      }
      profile = all;
      drawTimeline();
    } catch (error) {
      if (job !== chosen) return;
      profile = null;
      hideTimeline(`No timeline of ${job}: ${error.message}`);
    }
  }

  function hideTimeline(text) {
    say(byId("timeline-status"), text);
    put(canvas, "hidden", "");
    put(byId("stages"), "hidden", "");
    byId("timeline-legend").replaceChildren();
  }

  /** Stages with their quanta, in the order in which they began. */
  function stages() {
    const all = profile.stages.map((stage, number) => ({ ...stage, number, count: 0, us: 0, from: Infinity, to: 0 }));
    for (const it of profile.quanta) {
      const stage = all[it.stage];
      if (!stage) continue;
      stage.count += 1;
      stage.us += it.spanUs;
      stage.from = Math.min(stage.from, it.startUs);
      stage.to = Math.max(stage.to, it.startUs + it.spanUs);
    }
    return all.filter((stage) => stage.count).sort((a, b) => a.from - b.from);
  }

  function drawTimeline() {
    const ran = stages();
    if (!ran.length) {
      hideTimeline(`${profile.status.job} has had no quantum yet.`);
      return;
    }
    // A kernel's name begins with that of its family: there are as many families as colours.
    const family = (kernel) => kernel.split(".")[0];
    const families = [...new Set(ran.map((stage) => family(stage.kernel)))];
    const paint = (kernel) => colour(families.indexOf(family(kernel)));
    const parts = [...new Set(ran.map((stage) => stage.part))];
    const units = [...new Set(profile.quanta.map((it) => it.unit))].sort((a, b) => a - b);
    const where = (number) => {
      const unit = profile.units.find((it) => it.unit === number);
      return unit?.device ?? `core ${unit?.core ?? "?"}`;
    };
    const end = Math.max(...ran.map((stage) => stage.to), (profile.status.finishedMs ?? 0) * 1000);

    put(canvas, "hidden", null);
    const ratio = window.devicePixelRatio || 1;
    const row = 18;
    const gap = 16;
    const left = 112;
    const width = canvas.clientWidth;
    const height = row * (parts.length + units.length) + gap + 34;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    context.textBaseline = "middle";
    const x = (us) => left + ((width - left - 4) * us) / end;

    // A line at each round time.
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6].find((ms) => (end / 1000 / ms) * 70 <= width - left) ?? 1e6;
    context.strokeStyle = token("rule");
    context.fillStyle = token("quiet");
    context.textAlign = "center";
    for (let ms = 0; ms * 1000 <= end; ms += step) {
      context.beginPath();
      context.moveTo(x(ms * 1000), 0);
      context.lineTo(x(ms * 1000), height - 20);
      context.stroke();
      context.fillText(ms === 0 ? "0" : span(ms).replace(/\.0+ /, " "), Math.min(x(ms * 1000), width - 24), height - 9);
    }
    context.textAlign = "left";
    const label = (text, y) => {
      context.fillStyle = token("ink");
      context.fillText(text, 0, y + row / 2, left - 8);
    };
    const bar = (from, to, y, fill) => {
      context.fillStyle = fill;
      context.fillRect(x(from), y + 3, Math.max(1, x(to) - x(from)), row - 6);
    };
    parts.forEach((part, at) => {
      label(part, at * row);
      for (const stage of ran.filter((it) => it.part === part)) bar(stage.from, stage.to, at * row, paint(stage.kernel));
    });
    const below = parts.length * row + gap;
    units.forEach((unit, at) => label(where(unit), below + at * row));
    for (const it of profile.quanta) {
      const stage = profile.stages[it.stage];
      if (stage) bar(it.startUs, it.startUs + it.spanUs, below + units.indexOf(it.unit) * row, paint(stage.kernel));
    }

    const { status } = profile;
    const lost = profile.total - profile.quanta.length;
    const text = `${status.job}, ${status.state}: ${count(profile.quanta.length)} quanta on ${units.map(where).join(", ")} in ${span(end / 1000)} from its receipt${lost > 0 ? `; ${count(lost)} more are no longer kept` : ""}.`;
    say(byId("timeline-status"), text);
    put(canvas, "aria-label", `Timeline of ${text} The table of stages below has the figures.`);
    put(byId("stages"), "hidden", null);
    const legend = byId("timeline-legend");
    keep(legend, families, (name) => name, () => make("li", {}, make("span", { class: "swatch", "aria-hidden": "true" }), make("span")), (li, name) => {
      put(li.firstElementChild, "data-colour", families.indexOf(name) % COLOURS);
      say(li.lastElementChild, name);
    });
    table(byId("stage-rows"), ran.map((stage) => ({
      key: stage.number,
      cells: [
        { head: true, text: stage.part }, stage.kernel, { n: true, text: count(stage.size) }, { n: true, text: count(stage.count) },
        { n: true, text: span(stage.us / 1000) }, { n: true, text: span(stage.from / 1000) }, { n: true, text: span(stage.to / 1000) },
      ],
    })), "None.");
  }

  // Drawing changes the height of what is observed, so only another width counts.
  let drawn = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width === drawn) return;
    drawn = contentRect.width;
    if (profile) drawTimeline();
  }).observe(canvas.parentElement);

  wear(theme);
  tell();
  connect();
  setInterval(tell, 1000);
})();
