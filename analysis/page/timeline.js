// The timeline in the hands of its reader: what stands where, moving, mouse, keys and fingers.
"use strict";

class Timeline extends Drawing {
  constructor(about, tables) {
    super(about, tables);
    this.tip = document.getElementById("timeline-tip");
    this.pointers = new Map();
    this.listen();
  }

  // --- what stands where ------------------------------------------------------------------------

  at(x, y) {
    if (x < this.gutter || y < AXIS) return null;
    if (y >= this.pcpusTop) {
      const lane = Math.floor((y - this.pcpusTop) / PCPU);
      const i = this.nearest(this.tables.occupancy, lane, x, 2);
      return i < 0 ? null : { kind: "occupancy", i };
    }
    const lane = Math.floor((y - this.lanesTop) / this.shape.lane);
    const low = y - this.laneTop(lane) > this.shape.top + this.shape.run + 3;
    const order = low ? ["sends", "logs", "calls", "runs", "upcalls"] : ["runs", "upcalls", "sends", "logs", "calls"];
    for (const kind of order) {
      const i = this.nearest(this.tables[kind], lane, x, kind === "upcalls" ? 0 : 5);
      if (i >= 0) return { kind, i };
    }
    return null;
  }

  // The thing on a lane that is nearest to x, at most `reach` pixels away; -1 if there is none.
  nearest(table, lane, x, reach) {
    const time = this.time(x);
    const slack = reach / this.scale;
    const first = lowerBound(table.start, time - slack - table.longest);
    const last = lowerBound(table.start, time + slack);
    let best = -1;
    let bestAway = Infinity;
    for (let i = last - 1; i >= first; i--) {
      if (table.lane[i] !== lane) continue;
      const end = table.start[i] + (table.lasts ? Math.max(0, table.lasts[i]) : 0);
      const away = Math.max(table.start[i] - time, time - end, 0);
      if (away < bestAway && away <= slack) [best, bestAway] = [i, away];
      if (bestAway === 0) break;
    }
    return best;
  }

  describe({ kind, i }) {
    const table = this.tables[kind];
    const word = (name) => (table[name][i] < 0 ? null : table.words[name][table[name][i]]);
    const hz = this.about.tscHz;
    const lasts = table.lasts && table.lasts[i] >= 0 ? `, lasts ${duration(table.lasts[i], hz)}` : "";
    const when = `at ${duration(table.start[i], hz)}${lasts}`;
    const lines = [];
    if (kind === "runs") {
      lines.push(`${this.cause(i).name}: handler run of ${this.portName(i)}`, when);
      if (this.provoked[i] >= 0) {
        lines.push(`${duration(table.start[i] - this.provoked[i], hz)} after what provoked it`);
      }
      if (word("reason")) lines.push(word("reason"));
      if (word("routes")) lines.push(`via ${word("routes")}`);
      if (word("evidence") !== "observed") lines.push(word("evidence"));
      if (word("work")) lines.push("the driver found no work");
    } else if (kind === "sends") {
      const lane = this.about.lanes[table.lane[i]];
      lines.push(`send from d${lane.dom}:${table.port[i]} to ${word("to") || "?"}: ${word("fate")}`, when);
      if (word("reason")) lines.push(word("reason"));
    } else if (kind === "calls") {
      lines.push(word("text") || "a call", `${when}, returned ${word("rc") ?? "?"}`);
    } else if (kind === "occupancy") {
      lines.push(`${word("who")} runs`, when);
    } else if (kind === "logs") {
      lines.push(word("text"), when);
    } else {
      lines.push("upcall", when);
    }
    const lane = kind === "occupancy" ? null : this.about.lanes[table.lane[i]];
    if (lane && lane.uncertainty) lines.push(`its clock is joined to ±${duration(lane.uncertainty, hz)}`);
    if (table.seq) {
      const tsc = BigInt(this.about.firstTsc) + BigInt(table.start[i]);
      lines.push(`record ${table.seq[i]}, TSC ${tsc}`);
    }
    return lines;
  }

  // --- moving -----------------------------------------------------------------------------------

  show(from, to) {
    const least = 8;
    const span = Math.min(Math.max(to - from, least), this.length * 1.02);
    const middle = (from + to) / 2;
    this.from = Math.max(-this.length * 0.01, Math.min(middle - span / 2, this.length * 1.01 - span));
    this.to = this.from + span;
    this.scale = this.plot / span;
    this.hideTip();
    this.later();
  }

  zoom(factor, x = this.gutter + this.plot / 2) {
    const time = this.time(x);
    const span = (this.to - this.from) * factor;
    const share = (time - this.from) / (this.to - this.from);
    this.show(time - share * span, time + (1 - share) * span);
  }

  move(share) {
    const span = this.to - this.from;
    this.show(this.from + share * span, this.to + share * span);
  }

  whole() {
    this.show(-this.length * 0.01, this.length * 1.01);
  }

  // Shows a time, given in host TSC, so close that a run has some width.
  showTsc(tsc) {
    const time = Number(BigInt(tsc) - BigInt(this.about.firstTsc));
    if (time < 0 || time > this.length) return false;
    const { runs } = this.tables;
    const first = lowerBound(runs.start, time - 1);
    for (let i = first; i < runs.rows && runs.start[i] <= time + 1; i++) this.choose(i);
    const half = (this.about.tscHz || 1e9) * 1e-4;
    this.show(time - half, time + half);
    return true;
  }

  story() {
    if (this.about.story) this.show(...this.about.story);
    if (this.flagged.length) this.choose(this.flagged[0]);
  }

  toFlag(direction) {
    const { runs } = this.tables;
    if (!this.flagged.length) return;
    const here = this.chosen >= 0 ? runs.start[this.chosen] : (this.from + this.to) / 2;
    const ahead = this.flagged.filter((run) => (runs.start[run] - here) * direction > 0);
    const inOrder = ahead.length ? ahead : this.flagged; // round and round
    const run = inOrder.at(direction > 0 ? 0 : -1);
    const half = (this.to - this.from) / 2;
    this.show(runs.start[run] - half, runs.start[run] + half);
    this.choose(run);
  }

  choose(run) {
    this.chosen = run;
    this.chosenText = run < 0 ? "" : `${this.describe({ kind: "runs", i: run }).join("; ")}. (evtrace dump TRACE --around ${this.tables.runs.seq[run]})`;
    this.later();
  }

  showTip(x, y) {
    const found = this.at(x, y);
    if (!found) return this.hideTip();
    this.tip.textContent = this.describe(found).join("\n");
    this.tip.hidden = false;
    const width = this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(0, Math.min(x + 14, this.width - width))}px`;
    this.tip.style.top = `${y + 18}px`;
    this.view.style.cursor = found.kind === "runs" ? "pointer" : "default";
  }

  hideTip() {
    this.tip.hidden = true;
    this.view.style.cursor = "grab";
  }

  // --- hands ------------------------------------------------------------------------------------

  listen() {
    const { view, strip } = this;
    view.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    view.addEventListener("pointerdown", (event) => this.onDown(event));
    view.addEventListener("pointermove", (event) => this.onMove(event));
    for (const name of ["pointerup", "pointercancel"]) {
      view.addEventListener(name, (event) => this.onUp(event));
    }
    view.addEventListener("pointerleave", () => this.hideTip());
    view.addEventListener("dblclick", (event) => this.zoom(0.25, event.offsetX));
    view.addEventListener("keydown", (event) => this.onKey(event));
    strip.addEventListener("pointerdown", (event) => this.onStrip(event));
    strip.addEventListener("pointermove", (event) => event.buttons && this.onStrip(event));
    new ResizeObserver(() => {
      const width = Math.floor(view.parentElement.getBoundingClientRect().width);
      if (width !== this.width) this.resize();
    }).observe(view.parentElement);
    document.addEventListener("evtrace-theme", () => this.recolour());
  }

  onWheel(event) {
    if (!(event.ctrlKey || event.metaKey || document.activeElement === this.view)) return;
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.move(event.deltaX / this.plot);
    else this.zoom(Math.exp(event.deltaY * 0.002), event.offsetX);
  }

  onDown(event) {
    this.view.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event.offsetX);
    this.pressed = { x: event.offsetX, y: event.offsetY, moved: false };
  }

  onMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (before === undefined) return this.showTip(event.offsetX, event.offsetY);
    if (Math.abs(event.offsetX - this.pressed.x) > 3) this.pressed.moved = true;
    if (!this.pressed.moved) return;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId);
    if (others.length) {
      const fixed = others[0][1];
      const factor = Math.abs(before - fixed) / Math.max(8, Math.abs(event.offsetX - fixed));
      this.zoom(Math.min(4, Math.max(0.25, factor)), fixed);
    } else {
      this.move((before - event.offsetX) / this.plot);
    }
    this.pointers.set(event.pointerId, event.offsetX);
  }

  onUp(event) {
    this.pointers.delete(event.pointerId);
    if (!this.pressed || this.pressed.moved) return;
    const found = this.at(event.offsetX, event.offsetY);
    this.choose(found && found.kind === "runs" ? found.i : -1);
    if (event.pointerType !== "mouse") this.showTip(event.offsetX, event.offsetY);
  }

  onStrip(event) {
    if (event.type === "pointerdown") {
      this.strip.setPointerCapture(event.pointerId);
      this.stripFrom = event.offsetX;
    }
    const time = (x) => ((x - this.gutter) / this.plot) * this.length;
    const [a, b] = [this.stripFrom, event.offsetX].sort((p, q) => p - q);
    if (b - a > 4) this.show(time(a), time(b));
    else {
      const half = (this.to - this.from) / 2;
      this.show(time(event.offsetX) - half, time(event.offsetX) + half);
    }
  }

  onKey(event) {
    const keys = {
      ArrowLeft: () => this.move(-0.2),
      ArrowRight: () => this.move(0.2),
      "+": () => this.zoom(0.5),
      "=": () => this.zoom(0.5),
      "-": () => this.zoom(2),
      Home: () => this.whole(),
      n: () => this.toFlag(1),
      p: () => this.toFlag(-1),
      Escape: () => {
        this.choose(-1);
        this.view.blur();
      },
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  do(name) {
    const acts = {
      story: () => this.story(),
      before: () => this.toFlag(-1),
      after: () => this.toFlag(1),
      in: () => this.zoom(0.5),
      out: () => this.zoom(2),
      whole: () => this.whole(),
    };
    acts[name]();
  }
}
