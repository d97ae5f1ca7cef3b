(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("run-data").textContent);
  const root = document.documentElement;
  const HKT = 8 * 3600;
  const css = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const two = (n) => String(n).padStart(2, "0");
  const months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
  const local = (t) => new Date((t + HKT) * 1000);
  const hour = (t) => { const d = local(t); return two(d.getUTCHours()) + ":" + two(d.getUTCMinutes()); };
  const date = (t) => { const d = local(t); return d.getUTCDate() + " " + months[d.getUTCMonth()]; };
  const x = Array.from({ length: data.n }, (_, i) => data.start + i * data.step);
  const severe = { critical: "failed", high: "person", medium: "bank" };
  let charts = [];

  function bands(u) {
    const c = u.ctx, box = u.bbox;
    c.save();
    c.beginPath(); c.rect(box.left, box.top, box.width, box.height); c.clip();
    c.fillStyle = css("violet");
    for (const [from, to] of data.faults) {
      const a = u.valToPos(from, "x", true), b = Math.max(u.valToPos(to, "x", true), a + 2);
      c.globalAlpha = 0.14; c.fillRect(a, box.top, b - a, box.height);
      c.globalAlpha = 0.8; c.fillRect(a, box.top, b - a, 2 * devicePixelRatio);
    }
    c.restore();
  }

  function marks(u) {
    const c = u.ctx, box = u.bbox, r = 4 * devicePixelRatio, y = box.top + r + 4 * devicePixelRatio;
    c.save();
    for (const [t, severity] of data.alerts) {
      const at = u.valToPos(t, "x", true);
      if (at < box.left || at > box.left + box.width) continue;
      c.fillStyle = css(severe[severity] || "system");
      c.beginPath();
      if (severity === "critical") c.rect(at - r, y - r, 2 * r, 2 * r);
      else if (severity === "high") { c.moveTo(at, y - r); c.lineTo(at + r, y + r); c.lineTo(at - r, y + r); }
      else if (severity === "medium") { c.moveTo(at, y - r); c.lineTo(at + r, y); c.lineTo(at, y + r); c.lineTo(at - r, y); }
      else c.arc(at, y, r, 0, 7);
      c.fill();
    }
    c.restore();
  }

  function axis(more) {
    return Object.assign({
      stroke: () => css("muted"), font: '11px "Inter Variable",Inter,system-ui,sans-serif',
      grid: { stroke: () => css("line-soft"), width: 1 }, ticks: { show: false },
    }, more);
  }

  function stacked(rows) {
    const sum = new Array(data.n).fill(0);
    return rows.map((row) => row.map((v, i) => (sum[i] += v)));
  }

  function draw(place, spec) {
    const raw = spec.series.map((s) => s.values);
    let rows = spec.stacked ? stacked(raw) : raw, order = spec.series.map((_, i) => i);
    if (spec.stacked) order = order.reverse();
    const series = order.map((i) => {
      const s = spec.series[i];
      return {
        label: s.label, width: s.thin ? 1 : 1.5, dash: s.dash ? [4, 3] : undefined, points: { show: false },
        stroke: () => css(s.colour),
        fill: s.fill ? () => css(s.colour) + (spec.stacked ? "b0" : "40") : undefined,
        paths: spec.stacked ? uPlot.paths.stepped({ align: 1 }) : undefined,
        value: (u, v, si, at) => (at == null ? "" : raw[i][at].toLocaleString("en")),
      };
    });
    const u = new uPlot({
      width: place.clientWidth - 14, height: 168, padding: [8, 0, 0, 0],
      cursor: { sync: { key: "run" }, points: { size: 6 }, drag: { x: true, y: false } },
      legend: { live: true },
      scales: { x: { time: false, min: data.begin, max: data.end, range: (u, a, b) => (a === x[0] && b === x[x.length - 1] ? [data.begin, data.end] : [a, b]) }, y: { range: (u, a, b) => [0, Math.max(b * 1.12, 4)] } },
      series: [{ value: (u, t) => (t == null ? "" : (data.days > 1 ? date(t) + " " : "") + hour(t)) }].concat(series),
      axes: [
        axis({ size: 26, gap: 4, space: 70,
          incrs: [60, 300, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800],
          splits: (u, i, min, max, incr) => {
            const out = [];
            for (let t = Math.ceil((min + HKT) / incr) * incr - HKT; t <= max - incr / 5; t += incr) out.push(t);
            return out;
          },
          values: (u, ticks) => ticks.map((t) => ((t + HKT) % 86400 === 0 && data.days > 1 ? date(t) : hour(t))) }),
        axis({ size: 58, gap: 6, space: 32, values: (u, ticks) => ticks.map((v) => (v % 1 ? "" : v.toLocaleString("en"))) }),
      ],
      hooks: { drawClear: [bands], draw: [marks] },
    }, [x].concat(order.map((i) => rows[i])), place);
    charts.push([u, place]);
  }

  function all() {
    charts.forEach(([u]) => u.destroy());
    charts = [];
    for (const spec of data.charts) draw(document.getElementById(spec.id), spec);
  }

  function dark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  document.getElementById("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; all(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  let before;
  addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; all(); });
  addEventListener("afterprint", () => { if (before) root.dataset.theme = before; else delete root.dataset.theme; all(); });
  new ResizeObserver(() => charts.forEach(([u, place]) => {
    const width = place.clientWidth - 14;
    if (width !== u.width) u.setSize({ width, height: u.height });
  })).observe(document.querySelector("main"));
  all();
  document.fonts.load('11px "Inter Variable"').then(all);
})();
