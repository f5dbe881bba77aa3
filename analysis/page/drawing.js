// The timeline: slices, marks and arrows of all vCPUs on one canvas, a million of them at once.
// Where many fall on one pixel the rarest cause is drawn, so that what is odd is never hidden.
"use strict";

const AXIS = 26;
const FULL = { lane: 64, top: 15, run: 18, call: 40, callHeight: 5, send: 41, sendHeight: 9 };
const FLAT = { lane: 30, top: 7, run: 10, call: 20, callHeight: 3, send: 20, sendHeight: 6 };
const FLAT_FROM = 14;
const PCPU = 19;
const MAX_ARROWS = 700;
const DOMAIN_COLOURS = ["#7488a8", "#b58a5a", "#6d9f86", "#a87c9f", "#8f8f5c", "#6f9db3"];
const GONE_WRONG = new Set(["LOST", "DROP_UNBOUND", "SEND_INVALID", "CLOSED"]);

class Drawing {
  constructor(about, tables) {
    this.about = about;
    this.tables = tables;
    this.length = Math.max(1, about.length);
    this.view = document.getElementById("timeline-view");
    this.strip = document.getElementById("timeline-strip");
    this.now = document.getElementById("timeline-now");
    this.chosen = -1;
    this.indexCauses();
    this.indexArrows();
    for (const table of Object.values(tables)) table.longest = longest(table);
    [this.from, this.to] = about.story || [0, this.length];
    this.resize();
  }

  indexCauses() {
    const runs = this.tables.runs;
    const known = new Map(this.about.causes.map((cause, place) => [cause.name, place]));
    const words = runs.words.cause || [];
    this.causeOfWord = words.map((word) => known.get(word));
    this.flagged = [];
    for (let i = 0; i < runs.rows; i++) {
      if (this.cause(i).flagged) this.flagged.push(i);
    }
  }

  cause(run) {
    return this.about.causes[this.causeOfWord[this.tables.runs.cause[run]]];
  }

  indexArrows() {
    const { arrows, runs } = this.tables;
    this.provoked = new Float64Array(runs.rows).fill(-1);
    arrows.lasts = new Float64Array(arrows.rows);
    for (let i = 0; i < arrows.rows; i++) {
      const run = arrows.run[i];
      arrows.lasts[i] = Math.max(0, runs.start[run] - arrows.start[i]);
      if (this.provoked[run] < 0) this.provoked[run] = arrows.start[i];
    }
  }

  // --- sizes ------------------------------------------------------------------------------------

  resize() {
    const box = this.view.parentElement.getBoundingClientRect();
    this.width = Math.max(200, Math.floor(box.width));
    this.gutter = this.width < 600 ? 52 : 104;
    this.plot = this.width - this.gutter;
    this.shape = this.about.lanes.length >= FLAT_FROM ? FLAT : FULL;
    this.lanesTop = AXIS;
    this.pcpusTop = AXIS + this.about.lanes.length * this.shape.lane + 8;
    const pcpus = this.about.pcpus.length;
    this.height = this.pcpusTop + pcpus * PCPU + (pcpus ? 6 : 0);
    this.pen = sized(this.view, this.width, this.height);
    this.stripHeight = 34;
    this.stripPen = sized(this.strip, this.width, this.stripHeight);
    this.recolour();
  }

  recolour() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.colours = {
      ground: colour("--ground"),
      ink: colour("--ink"),
      soft: colour("--soft"),
      line: colour("--line"),
      band: colour("--band"),
      upcall: colour("--upcall"),
      call: colour("--call"),
      wrong: colour("--wrong"),
      accent: colour("--accent"),
    };
    this.stripPicture = null;
    this.draw();
  }

  later() {
    if (this.due) return;
    this.due = requestAnimationFrame(() => {
      this.due = 0;
      this.draw();
    });
  }

  x(time) {
    return this.gutter + (time - this.from) * this.scale;
  }

  time(x) {
    return this.from + (x - this.gutter) / this.scale;
  }

  laneTop(lane) {
    return this.lanesTop + lane * this.shape.lane;
  }

  range(table) {
    const first = lowerBound(table.start, this.from - table.longest);
    return [first, lowerBound(table.start, this.to)];
  }

  // --- drawing ----------------------------------------------------------------------------------

  draw() {
    this.scale = this.plot / (this.to - this.from);
    const { pen } = this;
    pen.fillStyle = this.colours.ground;
    pen.fillRect(0, 0, this.width, this.height);
    this.drawGround();
    pen.save();
    pen.beginPath();
    pen.rect(this.gutter, 0, this.plot, this.height);
    pen.clip();
    this.drawOccupancy();
    this.drawUpcalls();
    this.drawCalls();
    const seen = this.drawRuns();
    this.drawArrows();
    this.drawSends();
    this.drawFlags();
    this.drawLogs();
    this.drawChosen();
    pen.restore();
    this.drawStrip();
    this.say(seen);
  }

  drawGround() {
    const { pen, colours, shape } = this;
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    this.about.lanes.forEach((lane, place) => {
      const y = this.laneTop(place);
      if (place % 2 === 0) {
        pen.fillStyle = colours.band;
        pen.fillRect(0, y, this.width, shape.lane);
      }
      pen.textAlign = "left";
      pen.fillStyle = colours.ink;
      const middle = y + shape.top + shape.run / 2 + 1;
      pen.fillText(`d${lane.dom}v${lane.vcpu}`, 6, middle);
      if (lane.name && shape === FULL) {
        pen.fillStyle = colours.soft;
        pen.fillText(fitted(pen, lane.name, this.gutter - 10), 6, middle + 17);
      }
    });
    this.about.pcpus.forEach((pcpu, place) => {
      pen.fillStyle = colours.soft;
      pen.fillText(`${this.gutter < 100 ? "p" : "pCPU "}${pcpu}`, 6, this.pcpusTop + place * PCPU + PCPU / 2);
    });
    this.drawAxis();
  }

  drawAxis() {
    const { pen, colours } = this;
    const axis = ticks(this.from, this.to, Math.max(2, Math.floor(this.plot / 110)), this.about.tscHz);
    pen.textAlign = "center";
    pen.lineWidth = 1;
    for (const tick of axis.ticks) {
      const x = Math.round(this.x(tick.time)) + 0.5;
      if (x < this.gutter) continue;
      pen.strokeStyle = colours.line;
      pen.beginPath();
      pen.moveTo(x, AXIS - 5);
      pen.lineTo(x, this.height);
      pen.stroke();
      const half = pen.measureText(tick.text).width / 2;
      pen.fillStyle = colours.soft;
      if (x + half < this.width && x - half > this.gutter - 8) pen.fillText(tick.text, x, 11);
    }
    pen.textAlign = "left";
    pen.fillStyle = colours.soft;
    pen.fillText(fitted(pen, axis.base, this.gutter - 8), 6, 11);
  }

  // Draws slices: wide ones as they are, the others a pixel each, of which the highest rank wins.
  drawSlices(table, lanes, yOf, height, codeOf, colourOf, wide) {
    const { pen } = this;
    const [first, last] = this.range(table);
    const pixels = new Int32Array(lanes * this.plot).fill(-1);
    let count = 0;
    for (let i = first; i < last; i++) {
      const start = (table.start[i] - this.from) * this.scale;
      const length = Math.max(0, table.lasts[i]) * this.scale;
      if (start + length < 0) continue;
      count++;
      if (length >= 2) {
        wide(i, this.gutter + Math.max(start, -4), Math.min(start + length, this.plot + 4) - Math.max(start, -4));
      } else if (start >= 0 && start < this.plot) {
        const place = table.lane[i] * this.plot + Math.floor(start);
        const code = codeOf(i);
        if (code > pixels[place]) pixels[place] = code;
      }
    }
    for (let lane = 0; lane < lanes; lane++) {
      const row = pixels.subarray(lane * this.plot, (lane + 1) * this.plot);
      const y = yOf(lane);
      for (let x = 0; x < this.plot; ) {
        const code = row[x];
        let end = x + 1;
        while (end < this.plot && row[end] === code) end++;
        if (code >= 0) {
          pen.fillStyle = colourOf(code);
          pen.fillRect(this.gutter + x, y, Math.max(end - x, 2), height);
        }
        x = end;
      }
    }
    return count;
  }

  drawOccupancy() {
    const { occupancy } = this.tables;
    const { pen } = this;
    const words = occupancy.words.who || [];
    const colours = words.map((word) => domainColour(word));
    const yOf = (lane) => this.pcpusTop + lane * PCPU + 3;
    this.drawSlices(occupancy, this.about.pcpus.length, yOf, PCPU - 6, (i) => occupancy.who[i], (code) => colours[code], (i, x, width) => {
      const y = yOf(occupancy.lane[i]);
      pen.fillStyle = colours[occupancy.who[i]];
      pen.fillRect(x, y, Math.max(1, width - 1), PCPU - 6);
      if (width > 36) this.label([words[occupancy.who[i]]], x, y + (PCPU - 6) / 2 + 0.5, width);
    });
  }

  drawUpcalls() {
    const { upcalls } = this.tables;
    const { pen, colours, shape } = this;
    const height = shape.run + 6;
    const yOf = (lane) => this.laneTop(lane) + shape.top - 3;
    pen.globalAlpha = 0.55;
    this.drawSlices(upcalls, this.about.lanes.length, yOf, height, () => 0, () => colours.upcall, (i, x, width) => {
      pen.fillStyle = colours.upcall;
      pen.fillRect(x, yOf(upcalls.lane[i]), width, height);
    });
    pen.globalAlpha = 1;
  }

  drawCalls() {
    const { calls } = this.tables;
    const { pen, colours, shape } = this;
    const yOf = (lane) => this.laneTop(lane) + shape.call;
    this.drawSlices(calls, this.about.lanes.length, yOf, shape.callHeight, () => 0, () => colours.call, (i, x, width) => {
      const y = yOf(calls.lane[i]);
      pen.fillStyle = colours.call;
      pen.fillRect(x, y, Math.max(1, width - 0.5), shape.callHeight);
      const text = calls.text[i] < 0 ? "" : calls.words.text[calls.text[i]].split("(")[0];
      const room = Math.max(width, this.roomAfter(calls, i));
      if (shape === FULL && pen.measureText(text).width + 8 < room) {
        pen.fillStyle = colours.soft;
        pen.fillText(text, Math.max(x, this.gutter) + 2, y + shape.callHeight + 12);
      }
    });
  }

  // How far it is from the start of something to the start of the next on its lane.
  roomAfter(table, i) {
    const far = Math.min(table.rows, i + 64);
    for (let next = i + 1; next < far; next++) {
      if (table.lane[next] === table.lane[i]) {
        return (table.start[next] - table.start[i]) * this.scale;
      }
    }
    return far === table.rows ? Infinity : 0;
  }

  drawRuns() {
    const { runs } = this.tables;
    const { pen, shape } = this;
    const causes = this.about.causes;
    const yOf = (lane) => this.laneTop(lane) + shape.top;
    return this.drawSlices(runs, this.about.lanes.length, yOf, shape.run, (i) => this.causeOfWord[runs.cause[i]], (code) => causes[code].colour, (i, x, width) => {
      const y = yOf(runs.lane[i]);
      pen.fillStyle = this.cause(i).colour;
      pen.fillRect(x, y, Math.max(1.5, width - 0.5), shape.run);
      if (width > 30 && shape === FULL) this.label(this.portName(i).split(" "), x, y + shape.run / 2 + 0.5, width);
    });
  }

  // Writes on a slice as many of some words as have room.
  label(words, x, y, width) {
    const { pen } = this;
    const from = Math.max(x, this.gutter);
    const room = Math.min(x + width, this.width) - from - 8;
    pen.font = "11px system-ui, sans-serif";
    let shown = words.length;
    while (shown && pen.measureText(words.slice(0, shown).join(" ")).width > room) shown--;
    pen.fillStyle = "#fff";
    pen.fillText(words.slice(0, shown).join(" "), from + 4, y);
    pen.font = "12px system-ui, sans-serif";
  }

  drawArrows() {
    const { arrows, runs } = this.tables;
    const [first, last] = this.range(arrows);
    const lastX = new Map();
    const drawn = [];
    for (let i = first; i < last && drawn.length <= MAX_ARROWS; i++) {
      const run = arrows.run[i];
      if (runs.start[run] < this.from) continue;
      const x = Math.round(this.x(runs.start[run]));
      const lanes = arrows.lane[i] * 256 + runs.lane[run];
      if (lastX.get(lanes) === x) continue;
      lastX.set(lanes, x);
      drawn.push(i);
    }
    this.crowded = drawn.length > MAX_ARROWS;
    if (this.crowded) drawn.length = 0;
    const faint = drawn.length > 120 ? 0.3 : 0.85;
    for (const i of drawn) this.drawArrow(i, faint, drawn.length <= 120);
    if (this.chosen >= 0) {
      for (let i = 0; i < arrows.rows; i++) {
        if (arrows.run[i] === this.chosen) this.drawArrow(i, 1, true, 2.5);
      }
    }
  }

  drawArrow(i, alpha, head, thick = 1.3) {
    const { arrows, runs } = this.tables;
    const { pen, shape } = this;
    const run = arrows.run[i];
    const fromLane = arrows.lane[i];
    const toLane = runs.lane[run];
    const [x1, x2] = [this.x(arrows.start[i]), this.x(runs.start[run])];
    const y1 = this.laneTop(fromLane) + shape.send + shape.sendHeight / 2;
    const below = toLane > fromLane;
    const y2 = this.laneTop(toLane) + shape.top + (below ? 0 : shape.run);
    const bend = fromLane === toLane ? 10 : ((y2 - y1) * 2) / 5;
    pen.strokeStyle = pen.fillStyle = this.cause(run).colour;
    pen.globalAlpha = alpha;
    pen.lineWidth = thick;
    pen.beginPath();
    pen.moveTo(x1, y1);
    const endBend = fromLane === toLane ? -20 : bend;
    pen.bezierCurveTo(x1, y1 + bend, x2, y2 - endBend, x2, y2);
    pen.stroke();
    if (head) {
      const back = below ? -6 : 6;
      pen.beginPath();
      pen.moveTo(x2, y2);
      pen.lineTo(x2 - 3.5, y2 + back);
      pen.lineTo(x2 + 3.5, y2 + back);
      pen.fill();
    }
    pen.globalAlpha = 1;
  }

  drawSends() {
    const { sends } = this.tables;
    const { pen, colours, shape } = this;
    const [first, last] = this.range(sends);
    const lastX = new Float64Array(this.about.lanes.length).fill(-9);
    const words = sends.words.fate || [];
    const wrong = words.map((fate) => GONE_WRONG.has(fate));
    for (let i = first; i < last; i++) {
      const x = this.x(sends.start[i]);
      const lane = sends.lane[i];
      const isWrong = wrong[sends.fate[i]];
      if (x - lastX[lane] < 1 && !isWrong) continue;
      const y = this.laneTop(lane) + shape.send;
      pen.fillStyle = isWrong ? colours.wrong : colours.ink;
      if (x - lastX[lane] < 7) {
        pen.fillRect(x - 0.5, y, 1, shape.sendHeight);
      } else {
        pen.beginPath();
        pen.moveTo(x, y + shape.sendHeight);
        pen.lineTo(x - 4, y);
        pen.lineTo(x + 4, y);
        pen.fill();
      }
      lastX[lane] = x;
    }
  }

  drawFlags() {
    const { runs } = this.tables;
    const { pen } = this;
    const lastX = new Float64Array(this.about.lanes.length).fill(-99);
    for (const run of this.flagged) {
      const x = this.x(runs.start[run]);
      const lane = runs.lane[run];
      if (x < this.gutter - 9 || x > this.width || x - lastX[lane] < 5) continue;
      lastX[lane] = x;
      const y = this.laneTop(lane) + 1;
      pen.fillStyle = this.cause(run).colour;
      pen.fillRect(x, y, 1.5, this.shape.top);
      pen.beginPath();
      pen.moveTo(x, y);
      pen.lineTo(x + 10, y + 4);
      pen.lineTo(x, y + 8);
      pen.fill();
    }
  }

  drawLogs() {
    const { logs } = this.tables;
    const { pen, colours } = this;
    const [first, last] = this.range(logs);
    const lastX = new Float64Array(this.about.lanes.length).fill(-9);
    for (let i = first; i < last; i++) {
      const x = this.x(logs.start[i]);
      const lane = logs.lane[i];
      if (x - lastX[lane] < 2) continue;
      lastX[lane] = x;
      const y = this.laneTop(lane) + this.shape.lane - 5;
      pen.fillStyle = colours.soft;
      pen.beginPath();
      pen.arc(x, y, 2.2, 0, 7);
      pen.fill();
    }
  }

  drawChosen() {
    if (this.chosen < 0) return;
    const { runs } = this.tables;
    const { pen, shape } = this;
    const x = this.x(runs.start[this.chosen]);
    const width = Math.max(3, Math.max(0, runs.lasts[this.chosen]) * this.scale);
    pen.strokeStyle = this.colours.ink;
    pen.lineWidth = 2;
    pen.strokeRect(x - 1, this.laneTop(runs.lane[this.chosen]) + shape.top - 1, width + 2, shape.run + 2);
  }

  drawStrip() {
    if (!this.stripPicture) this.stripPicture = this.paintStrip();
    const { stripPen: pen, colours } = this;
    pen.fillStyle = colours.ground;
    pen.fillRect(0, 0, this.width, this.stripHeight);
    for (const [x, height, colour] of this.stripPicture) {
      pen.fillStyle = colour;
      pen.fillRect(this.gutter + x, this.stripHeight - 2 - height, 1, height);
    }
    const x1 = this.gutter + (this.from / this.length) * this.plot;
    const x2 = this.gutter + (this.to / this.length) * this.plot;
    pen.strokeStyle = colours.line;
    pen.strokeRect(this.gutter + 0.5, 0.5, this.plot - 1, this.stripHeight - 1);
    pen.fillStyle = colours.accent;
    pen.globalAlpha = 0.18;
    pen.fillRect(x1, 0, Math.max(2, x2 - x1), this.stripHeight);
    pen.globalAlpha = 1;
    pen.fillRect(x1, 0, 2, this.stripHeight);
    pen.fillRect(Math.max(x1, x2 - 2), 0, 2, this.stripHeight);
    pen.textBaseline = "middle";
    pen.textAlign = "left";
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = colours.soft;
    pen.fillText("whole", 6, this.stripHeight / 2);
  }

  paintStrip() {
    const { runs } = this.tables;
    const counts = new Float64Array(this.plot);
    const codes = new Int32Array(this.plot).fill(-1);
    for (let i = 0; i < runs.rows; i++) {
      const x = Math.min(this.plot - 1, Math.floor((runs.start[i] / this.length) * this.plot));
      counts[x]++;
      codes[x] = Math.max(codes[x], this.causeOfWord[runs.cause[i]]);
    }
    const most = Math.log1p(counts.reduce((a, b) => Math.max(a, b), 1));
    const picture = [];
    counts.forEach((count, x) => {
      if (!count) return;
      const height = 4 + (Math.log1p(count) / most) * (this.stripHeight - 10);
      picture.push([x, height, this.about.causes[codes[x]].colour]);
    });
    return picture;
  }

  say(runs) {
    const span = duration(this.to - this.from, this.about.tscHz);
    const { sends } = this.tables;
    const count = lowerBound(sends.start, this.to) - lowerBound(sends.start, this.from);
    const [shownRuns, shownSends] = [countOf(runs, "handler run"), countOf(count, "send")];
    if (!this.tables.runs.rows && !sends.rows) {
      this.now.textContent = `In view: ${span}. Neither runs nor sends were captured.`;
      return;
    }
    const more = this.crowded ? " Closer there are arrows from sends to handlers." : "";
    this.now.textContent = this.chosenText || `In view: ${span}, ${shownRuns}, ${shownSends}.${more}`;
  }

  portName(run) {
    const { runs } = this.tables;
    const lane = this.about.lanes[runs.lane[run]];
    const port = `d${lane.dom}:${runs.port[run] < 0 ? "?" : runs.port[run]}`;
    const device = runs.device[run] < 0 ? "" : ` ${runs.words.device[runs.device[run]]}`;
    return port + device;
  }
}

function domainColour(who) {
  const dom = Number(/^d(\d+)/.exec(who)[1]);
  return DOMAIN_COLOURS[dom % DOMAIN_COLOURS.length];
}

function fitted(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  let cut = text.length;
  while (cut > 1 && pen.measureText(`${text.slice(0, cut)}…`).width > room) cut--;
  return cut > 1 ? `${text.slice(0, cut)}…` : "";
}

function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}
