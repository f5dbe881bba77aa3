// Unpacks what packing.py packed: the timeline's columns, as arrays of numbers or of words.
"use strict";

function bytesOfBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A column's numbers; -1 is null (stored as 0, anything else one too high).
function unpackColumn(bytes, about, rows) {
  const values = new Float64Array(rows);
  let weight = 1;
  for (let plane = 0; plane < about.bytes; plane++, weight *= 256) {
    const from = about.at + plane * rows;
    for (let i = 0; i < rows; i++) values[i] += bytes[from + i] * weight;
  }
  let sum = about.first;
  for (let i = 0; i < rows; i++) {
    if (sum !== undefined) {
      const odd = values[i] % 2;
      sum += odd ? -(values[i] + 1) / 2 : values[i] / 2;
      values[i] = sum - 1;
    } else {
      values[i] -= 1;
    }
  }
  return values;
}

async function unpackTables(index, text) {
  const bytes = await inflate(bytesOfBase64(text.trim()));
  const tables = {};
  for (const [name, table] of Object.entries(index)) {
    const columns = { rows: table.rows, words: {} };
    for (const [column, about] of Object.entries(table.columns)) {
      columns[column] = unpackColumn(bytes, about, table.rows);
      columns.words[column] = about.words || null;
    }
    tables[name] = columns;
  }
  return tables;
}
