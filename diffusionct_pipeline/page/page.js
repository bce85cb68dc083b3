/* The slices that this page holds: gzip of differences along the rows, in base64. */

async function unpack(text, columns) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const cells = new Int16Array(await new Response(stream).arrayBuffer()); // little-endian, as every machine with a browser
  for (let i = 0; i < cells.length; i++) if (i % columns) cells[i] += cells[i - 1];
  return cells;
}

const series = JSON.parse(document.getElementById("series").textContent);
const unpacked = new Map(); // index -> promise of its HU
series.load = (index) => {
  if (!unpacked.has(index)) {
    const both = series.packed[index].map((text) => unpack(text, series.columns));
    unpacked.set(index, Promise.all(both).then(([before, after]) => ({ before, after })));
  }
  return unpacked.get(index);
};
const viewer = new Viewer(document.querySelector("main"), series);
