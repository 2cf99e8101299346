// What pages get on top of what they are: questions before grave acts, copying, the search key, charts. Everything works without.
"use strict";

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.ask;
  if (question && !window.confirm(question)) event.preventDefault();
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.textContent = "Copied";
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select")) return;
  const search = document.querySelector("input[type=search]");
  if (search) { event.preventDefault(); search.focus(); }
});

// <div class="chart" data-chart="/dashboard/queue/rates" data-title="Delivered a second">: GET answers {"at": [seconds], "series": [{"label", "values"}]}.
const COLOURS = ["#3b7ddd", "#d9822b", "#2f9e6e", "#c2485a", "#8a63d2", "#6b7a90"];

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

async function draw(box) {
  const answer = await fetch(box.dataset.chart, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  const found = await answer.json();
  const rows = [found.at, ...found.series.map((each) => each.values)];
  if (box.plot && box.plot.series.length === rows.length) { box.plot.setData(rows); return; }
  if (box.plot) box.plot.destroy();
  const axis = { stroke: ink("--soft"), grid: { stroke: ink("--line"), width: 1 } };
  box.plot = new uPlot({
    title: box.dataset.title, width: Math.max(box.clientWidth - 20, 200), height: 200, axes: [axis, { ...axis, size: 60 }], scales: { y: { range: (u, low, high) => [0, Math.max(high, 1) * 1.05] } },
    series: [{}, ...found.series.map((each, place) => ({ label: each.label, stroke: COLOURS[place % COLOURS.length], width: 2, spanGaps: false }))],
  }, rows, box);
}

const charts = document.querySelectorAll("[data-chart]");
charts.forEach((box) => {
  draw(box);
  const every = Number(box.dataset.every || 0);
  if (every) setInterval(() => { if (!document.hidden) draw(box); }, every * 1000);
});
