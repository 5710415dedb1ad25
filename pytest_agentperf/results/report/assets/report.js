"use strict";
// Fills the page's figures and reacts to its controls. Without it, every number is still there in tables.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const plain = (value, digits = 4) => (value === null || value === undefined ? "–" : Number(value.toPrecision(digits)).toLocaleString("en"));
  const seconds = (value) => (value === null ? "∞" : `${plain(value, 3)} s`);
  const views = new Map();

  // A chart: caption, legend, the drawing, and a line that says what the keyboard has reached.
  async function draw(figure, title, spec, { legend = [], simulated = false, nothing = "nothing to show" } = {}) {
    views.get(figure)?.finalize();
    views.delete(figure);
    const caption = make("figcaption", {}, title);
    if (simulated) caption.append(make("span", { className: "tag", textContent: "simulated" }));
    figure.replaceChildren(caption);
    if (!spec) {
      figure.append(make("p", { className: "quiet", textContent: nothing }));
      return;
    }
    if (legend.length) figure.append(key(legend));
    const canvas = make("div", { className: "canvas", tabIndex: 0 });
    canvas.setAttribute("role", "group");
    canvas.setAttribute("aria-label", `Chart: ${title}. Arrow keys move from value to value.`);
    const reading = make("output", { className: "reading" });
    reading.setAttribute("aria-live", "polite");
    figure.append(canvas, reading);
    try {
      const result = await vegaEmbed(canvas, { ...spec, description: title }, {
        mode: "vega-lite", ast: true, actions: false, renderer: "svg", defaultStyle: false,
        tooltip: { disableDefaultStyle: true }, loader: { load: () => Promise.reject(new Error("this page loads nothing")) },
      });
      views.set(figure, result.view);
      byKeyboard(canvas, reading);
    } catch (error) {
      console.error(`${title}: ${error.message}`);
      canvas.textContent = `The chart cannot be drawn: ${error.message}`;
    }
  }

  function byKeyboard(canvas, reading) {
    let at = -1;
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!move) return;
      const marks = all("svg [role=graphics-symbol][aria-label]", canvas).filter((mark) => !mark.querySelector("[aria-label]") && mark.localName === "path");
      if (!marks.length) return;
      event.preventDefault();
      at = (at + move + marks.length) % marks.length;
      marks.forEach((mark, i) => mark.classList.toggle("reached", i === at));
      reading.textContent = `${at + 1} of ${marks.length}. ${marks[at].getAttribute("aria-label")}`;
    });
  }

  const shapes = { circle: "M9,6m-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", "triangle-up": "M9,1.5L13.5,10.5H4.5Z", cross: "M7.5,2h3v2.5h2.500v3h-2.500v2.500h-3v-2.500h-2.500v-3h2.500Z",
    diamond: "M9,1L13,6L9,11L5,6Z", square: "M5.5,2.500h7v7h-7Z", line: "M1,6h16" };
  function key(items) {
    const list = make("ul", { className: "legend" });
    for (const { text, colour, shape = "circle" } of items) {
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      svg.setAttribute("viewBox", "0 0 18 12");
      svg.setAttribute("aria-hidden", "true");
      path.setAttribute("d", shapes[shape]);
      path.setAttribute(shape === "line" ? "stroke" : "fill", colour);
      if (shape === "line") path.setAttribute("stroke-width", 2.5);
      svg.append(path);
      list.append(make("li", {}, svg, text));
    }
    return list;
  }

  const lens = () => data.lenses.find((one) => one.key === find("input[name=lens]:checked")?.value) ?? data.lenses[0];

  function drawGroup(group) {
    const holder = find(`[data-chart=bars][data-group=${group.key}]`);
    const chosen = lens();
    const simulated = group.systems.length > 0 && group.systems.every((system) => !system.measured);
    group.tiers.forEach((tier, i) => {
      const figure = holder.children[i] ?? holder.appendChild(document.createElement("figure"));
      draw(figure, `${tier.title}: ${chosen.unit}`, charts.bars(group, tier, chosen), { simulated });
    });
    const published = new Set(group.bars.filter((bar) => bar.kind === "published").map((bar) => bar.system));
    const legend = [...group.labels.map(({ text, colour }) => ({ text, colour: charts.colour(colour), shape: published.has(text) ? "diamond" : "circle" })),
      { text: "too late for a tier’s TTFT", colour: "var(--ink)", shape: "triangle-up" }];
    const probes = group.systems.flatMap((system) => system.probes);
    if (probes.some((probe) => probe.invalid.length)) legend.push({ text: "not valid", colour: "var(--quiet)", shape: "cross" });
    draw(find(`[data-chart=curves][data-group=${group.key}]`), `${chosen.unit} against P25 output speed`, charts.curves(group, chosen),
      { legend, simulated, nothing: "No probe has a figure here." });
  }

  function look(group) {
    const section = find(`#${group.key} .look`);
    const chart = (name) => find(`[data-chart=${name}]`, section);
    const choice = (name) => find(`[data-choice=${name}]`, section);
    const [systems, tiers, phases, slider] = ["system", "tier", "phase", "step"].map(choice);
    let system, search, tier, rows, searchSpecs;

    function chooseSystem() {
      system = group.systems[systems.selectedIndex] ?? group.systems[0];
      const before = tiers.value;
      tiers.replaceChildren(...system.searches.map((one) => make("option", { value: one.tier, textContent: group.tiers.find((known) => known.name === one.tier).title })));
      if (system.searches.some((one) => one.tier === before)) tiers.value = before;
      chooseTier();
    }

    function chooseTier() {
      search = system.searches[tiers.selectedIndex];
      tier = group.tiers.find((one) => one.name === search?.tier);
      const probes = new Map(system.probes.map((probe) => [probe.phase, probe]));
      rows = (search?.steps ?? []).map((step, i) => {
        const probe = probes.get(step.phase);
        const known = `${step.low.toLocaleString("en")} and ${step.high === null ? "?" : (step.high - 1).toLocaleString("en")}`;
        return { ...step, ...probe, step: i + 1, known, ttftText: seconds(probe.ttft),
          described: `Probe ${i + 1}, ${probe.kind}, ${probe.agents} agents: ${step.verdict}. P25 ${plain(probe.speed)} tok/s, P95 TTFT ${seconds(probe.ttft)}. The capacity lies between ${known}.` };
      });
      slider.max = Math.max(rows.length, 1);
      slider.value = slider.max;
      const deciding = [search?.passed, search?.failed];
      phases.replaceChildren(...rows.map((row) => make("option", { value: row.phase, textContent:
        `${row.step}: ${row.kind}, ${row.agents.toLocaleString("en")} agents, ${row.verdict}${deciding.includes(row.phase) ? " (decided)" : ""}` })));
      if (search?.passed ?? search?.failed) phases.value = search.passed ?? search.failed;
      drawSearch();
      drawDistributions();
      drawTimelines();
      tell();
    }

    const who = () => `${system.label}, ${tier?.title ?? ""}`;
    const options = () => ({ simulated: !system.measured });

    function drawSearch() {
      const step = Number(slider.value);
      const used = new Set(rows.map((row) => row.verdict));
      const legend = charts.verdicts.domain.map((text, i) => ({ text, colour: charts.verdicts.colours[i], shape: charts.verdicts.shapes[i] })).filter((item) => used.has(item.text));
      const nothing = "No probe was judged at this tier.";
      searchSpecs = [["search-agents", "agents", "agents", null, ""], ["search-speed", "speed", "P25 tok/s", tier?.speed, "≥"], ["search-ttft", "ttft", "P95 TTFT (s)", tier?.ttft, "≤"]];
      for (const [name, field, title, target, relation] of searchSpecs) {
        const caption = { agents: `${who()}: agents tried; the band is where the capacity can still lie`, speed: "P25 output speed of each probe", ttft: "P95 time to first token of each probe" }[field];
        draw(chart(name), caption, rows.length ? charts.search(rows, step, field, title, target ?? null, relation) : null,
          { ...options(), nothing, legend: field === "agents" ? legend : [] });
      }
    }

    function tell() {
      const step = Number(slider.value);
      const row = rows[step - 1];
      const text = find(".step-text", section);
      find("[data-step='-1']", section).disabled = step <= 1;
      find("[data-step='1']", section).disabled = step >= rows.length;
      if (!row) {
        text.textContent = "No probe was judged at this tier.";
        return;
      }
      slider.setAttribute("aria-valuetext", `probe ${step} of ${rows.length}: ${row.agents} agents, ${row.verdict}`);
      const failed = (name) => (row.verdict === "INVALID" ? "" : row.violated.includes(name) ? "verdict-FAIL" : "verdict-PASS");
      text.replaceChildren(
        make("strong", {}, `${step} of ${rows.length}, ${row.kind}: ${row.agents.toLocaleString("en")} agents `), make("strong", { className: `verdict-${row.verdict}`, textContent: row.verdict }),
        make("br"), make("span", { className: failed("output_speed_p25"), textContent: `P25 speed ${plain(row.speed)} tok/s (target ≥ ${tier.speed})` }), " · ",
        make("span", { className: failed("ttft_p95"), textContent: `P95 TTFT ${seconds(row.ttft)} (target ≤ ${tier.ttft} s)` }),
        ` · ${row.requests.toLocaleString("en")} requests, ${row.failed} failed`, make("br"),
        row.reason ? `${row.reason}. ` : "", row.high === null ? `At least ${row.low.toLocaleString("en")} agents; nothing has failed yet.`
          : `The capacity now lies between ${row.known} agents.`);
      for (const [name] of searchSpecs) views.get(chart(name))?.signal("step", step).run();
    }

    function drawDistributions() {
      const of = (name) => [["passed", "PASS"], ["failed", "FAIL"]].flatMap(([end, verdict]) => {
        const found = system.details[search?.[end]]?.distributions;
        const row = rows.find((one) => one.phase === search?.[end]);
        return found?.[name] ? [{ name: `${row.agents.toLocaleString("en")} agents, ${verdict}`, verdict, curve: found[name].curve }] : [];
      });
      const nothing = "The records of the deciding probes are not here.";
      const legend = (curves) => curves.map((one) => ({ text: one.name, colour: `var(--${one.verdict === "PASS" ? "good" : "bad"})`, shape: "line" }));
      const [ttft, speed] = [of("ttft"), of("speed")];
      draw(chart("ttft"), `${who()}: time to first token`, ttft.length ? charts.distribution(ttft, "TTFT (s)", tier.ttft, 0.95, true) : null, { ...options(), nothing, legend: legend(ttft) });
      draw(chart("speed"), `${who()}: output speed`, speed.length ? charts.distribution(speed, "output speed (tok/s)", tier.speed, 0.25, false) : null, { ...options(), nothing, legend: legend(speed) });
    }

    function drawTimelines() {
      const line = system.details[phases.value]?.timeline;
      const row = rows.find((one) => String(one.phase) === phases.value);
      const about = row ? `${system.label}, ${row.agents.toLocaleString("en")} agents` : system.label;
      const cache = line?.series.cache_share ? ["cache_share", "by the server’s metrics"] : ["cache_share_usage", "by the answers’ usage"];
      for (const [name, title, unit, names, format] of [
        ["time-concurrency", "concurrency", "count", [["agents", "agents active"], ["in_flight", "requests in flight"]]],
        ["time-throughput", "output throughput", "tok/s", [["throughput_tok_s", "output tokens per second"]]],
        ["time-power", "power of all accelerators", "W", [["power_w", "power"]]],
        ["time-queue", "queue, as the server says", "requests", [["waiting", "waiting"], ["running", "running"]]],
        ["time-cache", `prompt tokens from cache, ${cache[1]}`, "share", [[cache[0], "share from cache"]], "%"],
      ]) {
        const legend = names.length > 1 && line ? names.filter(([key_]) => line.series[key_]).map(([, text], i) => ({ text, colour: `var(--s${i})`, shape: "line" })) : [];
        draw(chart(name), `${about}: ${title}`, line ? charts.timeline(line, names, unit, format) : null,
          { ...options(), legend, nothing: line ? "Not recorded." : "The files of this probe are not here." });
      }
      tabulate(line);
    }

    // The same as the tables of the deciding probes, which are there without scripts.
    function tabulate(line) {
      const details = find(".timeline-table", section);
      details.hidden = !line;
      if (!line) return;
      const { t, ...series } = line.table;
      const names = Object.keys(data.series).filter((name) => series[name]);
      const cell = (tag, text, scope = "") => Object.assign(make(tag, { className: scope === "row" ? "" : "number", textContent: text }), scope ? { scope } : {});
      const head = make("tr", {}, make("th", { scope: "col", textContent: "seconds" }), ...names.map((name) => cell("th", data.series[name], "col")));
      const body = t.slice(1).map((end, i) => make("tr", {}, cell("th", `${plain(t[i], 3)} to ${plain(end, 3)}`, "row"), ...names.map((name) => cell("td", plain(series[name][i], 3)))));
      find(".wide", details).replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
    }

    systems.replaceChildren(...group.systems.map((one) => make("option", { value: one.label, textContent: one.label })));
    systems.addEventListener("change", chooseSystem);
    tiers.addEventListener("change", chooseTier);
    phases.addEventListener("change", drawTimelines);
    slider.addEventListener("input", tell);
    all("[data-step]", section).forEach((button) => button.addEventListener("click", () => {
      slider.value = Number(slider.value) + Number(button.dataset.step);
      tell();
    }));
    chooseSystem();
  }

  function settings() {
    const wanted = find("#find-setting"), differing = find("#only-differences"), shown = find("#settings-shown");
    const rows = all("table.settings tbody tr");
    const filter = () => {
      const words = wanted.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = (differing.checked && !row.classList.contains("differs")) || !words.every((word) => text.includes(word));
        count += !row.hidden;
      }
      const looking = differing.checked || words.length > 0;
      for (const part of all("details.settings")) {
        part.hidden = !all("tbody tr", part).some((row) => !row.hidden);
        part.open = looking && !part.hidden;
      }
      shown.textContent = `${count} of ${rows.length} settings`;
    };
    wanted.addEventListener("input", filter);
    differing.addEventListener("change", filter);
    filter();
  }

  for (const group of data.groups) {
    drawGroup(group);
    if (group.systems.length) look(group);
    else find(`#${group.key} .look`).remove();
  }
  all("input[name=lens]").forEach((input) => input.addEventListener("change", () => data.groups.forEach(drawGroup)));
  settings();
})();
