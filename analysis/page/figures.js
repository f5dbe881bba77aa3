// Draws plotly's figures once they come near the screen, in the colours of the page.
"use strict";

(() => {
  const figures = JSON.parse(document.getElementById("figures-data").textContent);
  const boxes = [...document.querySelectorAll(".figure")];
  const stage = document.getElementById("stage");
  const config = { displayModeBar: false, responsive: true };

  function figureOf(box) {
    const choices = figures[box.dataset.figure];
    return choices[""] || choices[stage.value];
  }

  function themed(layout) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line") };
    return {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: colour("--ink") },
      hoverlabel: { bgcolor: colour("--ground"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--ink") },
      xaxis: { ...layout.xaxis, ...axis },
      yaxis: { ...layout.yaxis, ...axis },
    };
  }

  function draw(box) {
    const { data, layout } = figureOf(box);
    box.dataset.drawn = "yes";
    Plotly.react(box, data, themed(layout), config).then(() => {
      performance.mark(`evtrace-figure-${box.dataset.figure}`);
    });
  }

  const redraw = () => boxes.filter((box) => box.dataset.drawn).forEach(draw);
  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        near.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "300px" },
  );
  boxes.forEach((box) => near.observe(box));
  if (stage) stage.addEventListener("change", redraw);
  document.addEventListener("evtrace-theme", redraw);
  addEventListener("beforeprint", () => boxes.forEach(draw));
})();
