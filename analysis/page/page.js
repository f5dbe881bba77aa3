// Starts the page: the timeline, light and dark, filters of tables, links from times to the timeline.
"use strict";

function startTheme() {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const tell = () => document.dispatchEvent(new Event("evtrace-theme"));
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    tell();
  });
  dark.addEventListener("change", tell);
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    for (const closed of document.querySelectorAll("details:not([open])")) closed.open = true;
    tell();
  });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before;
    else delete root.dataset.theme;
    tell();
  });
}

function startFilters() {
  for (const box of document.querySelectorAll("input.filter")) {
    const rows = [...box.closest("section").querySelectorAll("tbody tr")];
    box.addEventListener("input", () => {
      const wanted = box.value.toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
  }
}

async function startTimeline() {
  const about = JSON.parse(document.getElementById("timeline-data").textContent);
  const section = document.getElementById("timeline");
  if (!about.lanes.length && !about.pcpus.length) {
    section.querySelector("#timeline-now").textContent = "The trace holds nothing that could be drawn.";
    return;
  }
  const packed = document.getElementById("timeline-marks").textContent;
  const tables = await unpackTables(about.tables, packed);
  const timeline = new Timeline(about, tables);
  const buttons = document.getElementById("timeline-buttons");
  buttons.hidden = false;
  for (const button of buttons.querySelectorAll("button")) {
    const needsFlag = ["story", "before", "after"].includes(button.dataset.do);
    button.hidden = needsFlag && !timeline.flagged.length;
    button.addEventListener("click", () => timeline.do(button.dataset.do));
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-tsc]");
    if (link && !timeline.showTsc(link.dataset.tsc)) event.preventDefault();
  });
  performance.mark("evtrace-timeline");
  document.documentElement.dataset.timeline = String(Math.round(performance.now()));
}

startTheme();
startFilters();
startTimeline().catch((error) => {
  const now = document.getElementById("timeline-now");
  now.textContent = `The timeline cannot be drawn in this browser (${error.message}); the tables below have what it shows.`;
  console.error(error);
});
