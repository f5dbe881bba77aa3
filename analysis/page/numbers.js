// Numbers of the timeline: searched, counted, and told as times.
"use strict";

function lowerBound(values, wanted) {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

function longest(table) {
  let most = 0;
  if (table.lasts) for (const length of table.lasts) if (length > most) most = length;
  return most;
}

function duration(cycles, hz) {
  if (!hz) return `${Math.round(cycles).toLocaleString("en")} cycles`;
  let value = (cycles / hz) * 1e9;
  for (const unit of ["ns", "µs", "ms"]) {
    if (Math.abs(value) < 999.5) return `${Number(value.toPrecision(unit === "ns" ? 3 : 4))} ${unit}`;
    value /= 1000;
  }
  return `${Number(value.toPrecision(6))} s`;
}

// Gives some round times in an interval; what all of them share stands once, as `base`.
function ticks(from, to, about, hz) {
  const unit = hz ? hz : 1;
  const raw = (to - from) / unit / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
  const first = Math.ceil(from / unit / step);
  const last = Math.floor(to / unit / step);
  const far = Math.abs(to / unit) / step > 2000;
  const base = far ? Math.floor(from / unit / (step * 100)) * 100 : 0;
  const list = [];
  for (let k = first; k <= last; k++) {
    const text = duration((k - base) * step * unit, hz);
    list.push({ time: k * step * unit, text: far ? `+${text}` : text });
  }
  return { ticks: list, base: far ? duration(base * step * unit, hz) : "" };
}

function countOf(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
