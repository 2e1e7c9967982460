// A file as pixels on the screen, and a saliency map over it. The service gets the file; this is for the eyes only.

const MAX_SIDE = 960; // pixels of the screen's copy
const HEAT_SIDE = 320;

// Dark violet, red, orange, pale yellow, in rising lightness: contract/heatmap.py draws with the same.
const RAMP = [
  [45, 11, 89],
  [165, 44, 96],
  [240, 112, 32],
  [252, 255, 164],
];

let decoding = Promise.resolve(); // one at a time: a large photograph takes hundreds of megabytes while it is decoded

/**
 * Draw a file on a canvas, no larger than the screen needs.
 *
 * @returns {Promise<{width: number, height: number} | null>} the file's own size in pixels, null if the browser cannot
 */
export function drawFile(file, canvas, signal) {
  decoding = decoding.then(() => (signal.aborted ? null : draw(file, canvas))).catch(() => null);
  return decoding;
}

async function draw(file, canvas) {
  const bitmap = await createImageBitmap(file);
  const { width, height } = bitmap;
  const scale = Math.min(1, MAX_SIDE / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return { width, height };
}

/**
 * Paint a saliency map so that it lies over the picture as the model saw it.
 *
 * @param {HTMLCanvasElement} canvas to lie over the picture, stretched to its size
 * @param {{rows: number, columns: number, values: number[][]}} saliency values in [0, 1]
 * @param {{width: number, height: number}} picture
 * @param {{width: number, height: number, fit: string, crop_fraction?: number}} input how the model takes its pictures
 */
export function paintHeat(canvas, saliency, picture, input) {
  const scale = HEAT_SIDE / Math.max(picture.width, picture.height);
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const [toX, toY] = mapOf(picture, input);
  for (let y = 0, at = 0; y < canvas.height; y += 1) {
    const v = toY((y + 0.5) / canvas.height);
    for (let x = 0; x < canvas.width; x += 1, at += 4) {
      const u = toX((x + 0.5) / canvas.width);
      if (u < 0 || u > 1 || v < 0 || v > 1) continue; // the model did not see this part
      image.data.set(colorOf(valueAt(saliency, u, v)), at);
    }
  }
  context.putImageData(image, 0, 0);
}

/** Return how a place in the picture, from 0 to 1 along each side, becomes a place in the model's input. */
function mapOf(picture, input) {
  const ratio = [picture.width / input.width, picture.height / input.height];
  const shared = { crop: Math.min(...ratio), pad: Math.max(...ratio) }[input.fit];
  const kept = input.crop_fraction ?? 1; // of each side
  return ratio.map((own) => (place) => 0.5 + ((place - 0.5) * own) / ((shared ?? own) * kept));
}

/** Return the map's value at a place in [0, 1], between its cells' centres. */
function valueAt({ rows, columns, values }, u, v) {
  const x = Math.min(columns - 1, Math.max(0, u * columns - 0.5));
  const y = Math.min(rows - 1, Math.max(0, v * rows - 0.5));
  const [left, upper] = [Math.floor(x), Math.floor(y)];
  const [right, lower] = [Math.min(columns - 1, left + 1), Math.min(rows - 1, upper + 1)];
  const [dx, dy] = [x - left, y - upper];
  const top = values[upper][left] * (1 - dx) + values[upper][right] * dx;
  const bottom = values[lower][left] * (1 - dx) + values[lower][right] * dx;
  return top * (1 - dy) + bottom * dy;
}

/** Return red, green, blue and alpha, 0 to 255: what has no weight stays transparent. */
function colorOf(value) {
  const level = Math.min(1, Math.max(0, value));
  const place = level * (RAMP.length - 1);
  const low = Math.min(RAMP.length - 2, Math.floor(place));
  const share = place - low;
  const color = RAMP[low].map((channel, i) => channel * (1 - share) + RAMP[low + 1][i] * share);
  return [...color, 255 * level];
}
