"use strict";
// The charts as Vega-Lite specifications. Colours are the page's CSS variables, so that dark mode and print need no new drawing.
const charts = (() => {
  const number = { type: "quantitative" };
  const config = {
    background: null, view: { stroke: null }, font: "system-ui, sans-serif",
    axis: { labelColor: "var(--quiet)", titleColor: "var(--quiet)", gridColor: "var(--line)", domainColor: "var(--line)",
      tickColor: "var(--line)", labelFontSize: 11, titleFontSize: 11, titleFontWeight: 400, labelLimit: 160 },
    text: { color: "var(--ink)", fontSize: 11 }, rule: { color: "var(--quiet)" }, aria: true,
  };
  const verdicts = { domain: ["PASS", "FAIL", "INVALID", "INCONCLUSIVE"],
    colours: ["var(--good)", "var(--bad)", "var(--warn)", "var(--warn)"], shapes: ["circle", "cross", "diamond", "square"] };
  const colour = (number) => `var(--s${number % 8})`;
  const byVerdict = {
    color: { field: "verdict", type: "nominal", legend: null, scale: { domain: verdicts.domain, range: verdicts.colours } },
    shape: { field: "verdict", type: "nominal", legend: null, scale: { domain: verdicts.domain, range: verdicts.shapes } },
  };
  const tip = (...pairs) => pairs.map(([field, title, format]) => ({ field, title, ...(format ? { format } : {}) }));
  // Round values of a logarithmic axis, few enough to be read.
  function ticks(values) {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    for (const steps of [[1, 2, 3, 5], [1, 2, 5], [1, 3], [1]]) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.log10(high) + 1; power++) found.push(...steps.map((step) => step * 10 ** power));
      const inside = found.filter((value) => value >= low / 1.3 && value <= high * 1.3);
      if (inside.length <= 7) return inside;
    }
    return undefined;
  }
  const frame = (height, layer, more = {}) =>
    ({ width: "container", height, autosize: { type: "fit-x", contains: "padding" }, config, layer, ...more });
  const systems = (group) => ({ domain: group.labels.map((one) => one.text), range: group.labels.map((one) => colour(one.colour)) });
  const fills = { measured: colour, simulated: (number) => `url(#hatch-${number % 8})`, published: () => "var(--paper)" };

  // One tier's bars, the best first. What has no figure says why.
  function bars(group, tier, lens) {
    const rows = group.bars.filter((bar) => bar.tier === tier.name).map((bar) => ({
      system: bar.system, value: bar.values[lens.key], shown: bar.shown[lens.key], agents: bar.agents, trust: bar.trust,
      figures: bar.kind, fill: fills[bar.kind](bar.colour),
      described: `${bar.system}: ${bar.shown[lens.key]} ${lens.unit}, ${bar.agents} agents`,
    })).sort((a, b) => (b.value ?? -1) - (a.value ?? -1));
    const most = Math.max(...rows.map((row) => row.value ?? 0), 0) || 1;
    const y = { field: "system", type: "nominal", sort: null, axis: { title: null, ticks: false, domain: false, labelPadding: 6, labelColor: "var(--ink)", labelFontSize: 12 } };
    const x = { field: "value", ...number, scale: { domain: [0, most * 1.28] }, axis: { title: lens.unit, tickCount: 4 } };
    return frame(30 * rows.length, [
      { mark: { type: "bar", cornerRadiusEnd: 2, strokeWidth: 1.5 }, encoding: { y, x, description: { field: "described" },
        fill: { field: "fill", type: "nominal", scale: null }, stroke: { field: "system", type: "nominal", scale: systems(group), legend: null },
        tooltip: tip(["system", "system"], ["shown", lens.unit], ["agents", "agents"], ["figures", "figures"], ["trust", "trust"]) } },
      { transform: [{ calculate: "datum.value == null ? 0 : datum.value", as: "at" }],
        mark: { type: "text", align: "left", dx: 5, aria: false }, encoding: { y, x: { field: "at", ...number }, text: { field: "shown" } } },
    ], { data: { values: rows } });
  }

  // Every probe of every system: agents through the lens against P25 speed.
  function curves(group, lens) {
    const points = group.systems.flatMap((system) => system.probes
      .filter((probe) => probe.values[lens.key] && probe.speed > 0).map((probe) => ({
        system: system.label, line: new Set(system.probes.map((p) => p.deployment)).size > 1 ? `${system.label} ${probe.deployment}` : system.label, agents: probe.agents, value: probe.values[lens.key], speed: probe.speed,
        ttft: probe.ttft, ttftText: probe.ttft === null ? "infinite: requests failed" : `${probe.ttft.toPrecision(3)} s`,
        late: probe.invalid.length ? "not valid" : probe.late.length ? "too late" : "in time", lateText: probe.invalid.length ? `not valid: ${probe.invalid[0]}` : probe.late.length ? `too late for ${probe.late.join(", ")}` : "in time at all tiers",
        verdicts: Object.entries(probe.verdicts).map(([tier, verdict]) => `${tier} ${verdict}`).join(", "), kind: probe.kind,
        described: `${system.label}, ${probe.agents} agents: P25 ${probe.speed} tok/s, P95 TTFT ${probe.ttft === null ? "infinite" : probe.ttft + " s"}`,
      })));
    // A published capacity is at least as fast as its tier asks.
    const published = group.bars.filter((bar) => bar.kind === "published" && bar.values[lens.key]).map((bar) => {
      const tier = group.tiers.find((one) => one.name === bar.tier);
      return { system: bar.system, value: bar.values[lens.key], speed: tier.speed, text: `${tier.title}, at least ${tier.speed} tok/s`, described: `${bar.system}, ${tier.title}: ${bar.shown[lens.key]} ${lens.unit}` };
    });
    if (!points.length && !published.length) return null;
    const last = {};
    for (const point of points) if (!last[point.line] || point.value > last[point.line].value) last[point.line] = point;
    const color = { field: "system", type: "nominal", scale: systems(group), legend: null };
    const x = { field: "speed", ...number, scale: { type: "log", nice: false, padding: 12 }, axis: { title: "P25 output speed (tok/s)", values: ticks([...points.map((p) => p.speed), ...group.tiers.map((t) => t.speed)]), format: "~g" } };
    const y = { field: "value", ...number, scale: { type: "log", nice: false, padding: 12 }, axis: { title: lens.unit, values: ticks([...points, ...published].map((p) => p.value)), format: ",~g" } };
    return frame(380, [
      { data: { values: group.tiers }, mark: { type: "rule", strokeDash: [5, 4], aria: false }, encoding: { x: { field: "speed", ...number } } },
      { data: { values: group.tiers.map((tier) => ({ ...tier, text: `${tier.title} ≥ ${tier.speed}` })) },
        mark: { type: "text", align: "left", baseline: "top", dx: 3, aria: false, color: "var(--quiet)" },
        encoding: { x: { field: "speed", ...number }, y: { value: 2 }, text: { field: "text" } } },
      { transform: [{ filter: "datum.late !== 'not valid'" }], mark: { type: "line", strokeWidth: 1.5, opacity: 0.6, aria: false },
        encoding: { x, y, color, detail: { field: "line" }, order: { field: "agents", ...number } } },
      { mark: { type: "point", filled: true, size: 75 }, encoding: { x, y, color,
        shape: { field: "late", type: "nominal", legend: null, scale: { domain: ["in time", "too late", "not valid"], range: ["circle", "triangle-up", "cross"] } },
        opacity: { condition: { test: "datum.late === 'not valid'", value: 0.4 }, value: 1 },
        description: { field: "described" }, tooltip: tip(["system", "system"], ["agents", "agents", ","], ["value", lens.unit, ",.4~g"],
          ["speed", "P25 speed (tok/s)", ".4~g"], ["ttftText", "P95 TTFT"], ["lateText", "TTFT"], ["verdicts", "verdicts"], ["kind", "probe"]) } },
      ...(published.length ? [{ data: { values: published }, mark: { type: "point", filled: false, shape: "diamond", size: 110, strokeWidth: 2 }, encoding: { x, y, color,
        description: { field: "described" }, tooltip: tip(["system", "system"], ["value", lens.unit, ",.4~g"], ["text", "published at"]) } }] : []),
      { data: { values: Object.values(last) }, mark: { type: "text", align: "center", dy: -11, fontWeight: 600, aria: false },
        encoding: { x, y, color, text: { field: "line" } } },
    ], { data: { values: points } });
  }

  // What the search knew after each probe, as a band, and the probes themselves. `step` is the last one shown in full.
  const dim = { condition: { test: "datum.step <= step", value: 1 }, value: 0.18 };
  const stepAxis = (rows, title) => ({ field: "step", ...number, scale: { domain: [0.5, rows.length + 0.5], nice: false },
    axis: { title, values: rows.map((row) => row.step), format: "d", grid: false } });
  function search(rows, step, field, title, target, relation) {
    const shown = rows.filter((row) => row[field] !== null && row[field] > 0);
    if (!shown.length) return null;
    const x = stepAxis(rows, field === "ttft" ? "probe" : null);
    const values = [...shown.map((row) => row[field]), ...(target === null ? [] : [target])];
    const domain = [Math.min(...values) / 1.25, Math.max(...values) * 1.25];
    const y = { field, ...number, scale: { type: "log", nice: false, domain }, axis: { title, values: ticks(values), format: ",~g", minExtent: 40 } };
    const described = { field: "described" };
    const layer = [];
    if (target !== null) {
      layer.push({ data: { values: [{ target, text: `target ${relation} ${target}` }] }, layer: [
        { mark: { type: "rule", strokeDash: [5, 4], aria: false }, encoding: { y: { field: "target", ...number } } },
        { mark: { type: "text", align: "left", baseline: relation === "≥" ? "bottom" : "top", dx: 2, dy: relation === "≥" ? -2 : 3, color: "var(--quiet)", aria: false },
          encoding: { x: { value: 0 }, y: { field: "target", ...number }, text: { field: "text" } } }] });
    } else {
      layer.push({ data: { values: rows.map((row) => ({ step: row.step, end: row.step + 1, low: Math.max(row.low, domain[0]), high: row.high ?? domain[1] })) },
        mark: { type: "rect", opacity: 0.28, aria: false, clip: true }, encoding: { x: { ...x, field: "step" }, x2: { field: "end" },
          y: { field: "low", ...number }, y2: { field: "high" }, fill: { value: "var(--s0)" },
          opacity: { condition: { test: "datum.step <= step", value: 0.22 }, value: 0 } } });
    }
    layer.push({ mark: { type: "line", color: "var(--quiet)", strokeWidth: 1, opacity: 0.4, aria: false }, encoding: { x, y } });
    layer.push({ mark: { type: "point", filled: true, size: 90 }, encoding: { x, y, ...byVerdict, opacity: dim, description: described,
      tooltip: tip(["step", "probe"], ["kind", "kind"], ["agents", "agents", ","], ["speed", "P25 speed (tok/s)", ".4~g"], ["ttftText", "P95 TTFT"], ["verdict", "verdict"], ["known", "then between"]) } });
    return frame(field === "agents" ? 200 : 110, layer, { data: { values: rows }, params: [{ name: "step", value: step }] });
  }

  // Two distributions as cumulative curves: of the probe that passed last and of the first that failed.
  function distribution(curvesOf, title, target, share, below) {
    const values = curvesOf.flatMap((one) => one.curve.filter(([, value]) => value !== null && value > 0)
      .map(([q, value]) => ({ probe: one.name, verdict: one.verdict, share: q, value })));
    if (!values.length) return null;
    const marks = curvesOf.map((one) => ({ probe: one.name, verdict: one.verdict, share, value: (one.curve.find(([q]) => q === share) || [])[1] ?? null }))
      .filter((mark) => mark.value !== null && mark.value > 0)
      .map((mark) => ({ ...mark, described: `${mark.probe}: P${Math.round(share * 100)} ${mark.value}` }));
    const ends = [Math.min(...values.map((v) => v.value), target), Math.max(...values.map((v) => v.value), target)];
    const x = { field: "value", ...number, scale: { type: "log", domain: ends, nice: false, clamp: true }, axis: { title, values: ticks(ends), format: ",~g" } };
    const y = { field: "share", ...number, scale: { domain: [0, 1] }, axis: { title: "share of requests", format: "%", tickCount: 5 } };
    const color = { ...byVerdict.color };
    return frame(220, [
      { data: { values: [below ? { from: ends[0], to: target } : { from: target, to: ends[1] }] },
        mark: { type: "rect", opacity: 0.12, color: "var(--good)", aria: false }, encoding: { x: { ...x, field: "from" }, x2: { field: "to" } } },
      { data: { values: [{ target, text: `target ${below ? "≤" : "≥"} ${target}` }] }, layer: [
        { mark: { type: "rule", strokeDash: [5, 4], aria: false }, encoding: { x: { ...x, field: "target" } } },
        { mark: { type: "text", align: below ? "right" : "left", baseline: "bottom", dx: below ? -4 : 4, dy: -3, color: "var(--quiet)", aria: false },
          encoding: { x: { ...x, field: "target" }, y: { value: 220 }, text: { field: "text" } } }] },
      { data: { values: [{ share }] }, mark: { type: "rule", strokeDash: [2, 3], aria: false }, encoding: { y: { ...y, field: "share" } } },
      { mark: { type: "line", strokeWidth: 2, interpolate: "linear", aria: false }, encoding: { x, y, color, detail: { field: "probe" }, order: { field: "share", ...number },
        strokeDash: { condition: { test: "datum.verdict === 'FAIL'", value: [7, 3] }, value: [1, 0] } } },
      { mark: { type: "point", filled: true, opacity: 0, size: 60, aria: false }, encoding: { x, y, tooltip: tip(["probe", "probe"], ["share", "share at or below", ".1%"], ["value", title, ".4~g"]) } },
      { data: { values: marks }, mark: { type: "point", filled: true, size: 110, opacity: 1 }, encoding: { x, y, ...byVerdict,
        description: { field: "described" }, tooltip: tip(["probe", "probe"], ["share", "percentile", ".0%"], ["value", title, ".4~g"]) } },
    ], { data: { values } });
  }

  const short = (value) => Number(value.toPrecision(3)).toLocaleString("en");
  function means(line, names, title, format) {
    const ends = line.table.t;
    return names.filter(([key]) => line.table[key]).flatMap(([key, name]) => line.table[key].map((value, i) => ({
      t: (ends[i] + ends[i + 1]) / 2, value, name,
      described: value === null ? "" : `${name}, ${short(ends[i])} to ${short(ends[i + 1])} s: ${format === "%" ? `${short(100 * value)} %` : `${short(value)}${title === "count" ? "" : ` ${title}`}`}`,
    }))).filter((one) => one.value !== null);
  }

  // Series over time; the window is shaded, and what is not known is a gap.
  function timeline(line, names, title, format) {
    const values = names.filter(([key]) => line.series[key]).flatMap(([key, name]) =>
      line.series[key].map((value, i) => ({ t: line.t[i], value, name })));
    if (!values.length) return null;
    const used = names.filter(([key]) => line.series[key]).map(([, name]) => name);
    const x = { field: "t", ...number, scale: { nice: false }, axis: { title: "seconds since the phase began", tickCount: 6, grid: false } };
    const y = { field: "value", ...number, axis: { title, tickCount: 4, format } };
    const color = { field: "name", type: "nominal", legend: null, scale: { domain: used, range: ["var(--s0)", "var(--s1)"] } };
    return frame(130, [
      { data: { values: [{ from: line.window[0], to: line.window[1] }] }, mark: { type: "rect", opacity: 0.12, color: "var(--quiet)", aria: false },
        encoding: { x: { field: "from", ...number }, x2: { field: "to" } } },
      { mark: { type: "line", strokeWidth: 1.6, aria: false, invalid: "break-paths-show-path-domains" }, encoding: { x, y, color } },
      // What the keyboard reaches: a mean over each stretch of the table, seen when it is reached.
      { data: { values: means(line, names, title, format) }, mark: { type: "point", filled: true, size: 60, opacity: 0 },
        encoding: { x, y, color, description: { field: "described" } } },
      { mark: { type: "point", filled: true, size: 45, opacity: 0, aria: false }, encoding: { x, y, color, tooltip: tip(["name", "series"], ["t", "seconds", ".4~g"], ["value", title, format || ",.4~g"]) } },
    ], { data: { values } });
  }

  return { colour, bars, curves, search, distribution, timeline, verdicts };
})();
