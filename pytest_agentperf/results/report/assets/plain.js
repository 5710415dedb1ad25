"use strict";
(async () => {
  const { charts } = JSON.parse(document.getElementById("data").textContent);
  const config = { background: null, view: { stroke: null }, font: "system-ui, sans-serif", aria: true,
    axis: { labelColor: "var(--quiet)", titleColor: "var(--quiet)", gridColor: "var(--line)", domainColor: "var(--line)",
      tickColor: "var(--line)", labelFontSize: 11, titleFontSize: 11, titleFontWeight: 400 },
    legend: { labelColor: "var(--ink)", titleColor: "var(--quiet)" } };
  for (const [number, figure] of document.querySelectorAll("figure[data-chart]").entries()) {
    await vegaEmbed(figure, { ...charts[number], config, width: "container", autosize: { type: "fit-x", contains: "padding" } },
      { mode: "vega-lite", ast: true, actions: false, renderer: "svg", defaultStyle: false,
        tooltip: { disableDefaultStyle: true }, loader: { load: () => Promise.reject(new Error("this page loads nothing")) } });
  }
})();
