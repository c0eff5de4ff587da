// Numbers as pictures.

import { make } from "zoo/dom.js";

// From low to high; the middle of a map with both signs is white.
const BOTH = [
  [33, 74, 143],
  [138, 178, 220],
  [246, 246, 244],
  [240, 160, 120],
  [150, 30, 40],
];
const ONE = [
  [12, 14, 40],
  [84, 28, 110],
  [187, 55, 84],
  [249, 142, 8],
  [252, 255, 200],
];

/** The colours that parts of a whole are told apart by. */
export const PARTS = ["#8ecae6", "#ffb703", "#a7c957", "#e5989b", "#cdb4db", "#90e0c4"];

/** Return red, green and blue of a number from 0 to 1. */
function colour(scale, share) {
  const place = Math.min(Math.max(share, 0), 1) * (scale.length - 1);
  const low = Math.min(Math.floor(place), scale.length - 2);
  return scale[low].map((from, i) => from + (scale[low + 1][i] - from) * (place - low));
}

/** Return the lowest and the highest of some numbers. */
function rangeOf(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** Return what colours numbers from the lowest to the highest; with both signs, alike around 0. */
function colours([low, high]) {
  if (low < 0) {
    const reach = Math.max(-low, high) || 1;
    return (value) => colour(BOTH, 0.5 + value / (2 * reach));
  }
  return (value) => colour(ONE, high > low ? (value - low) / (high - low) : 0);
}

/**
 * Draw a map of numbers, a pixel a number.
 * @param {ArrayLike<number>} values Row by row.
 * @param {number} height
 * @param {number} width
 * @param {object} options `scale`: pixels on the screen; `range`: of the colours; `label`: what it
 *   shows, in words.
 */
export function heatmap(values, height, width, { scale = 4, range = rangeOf(values), label }) {
  const paint = colours(range);
  const canvas = make("canvas", { width, height, role: "img", "aria-label": label });
  canvas.style.width = `${width * scale}px`;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    image.data.set(paint(values[i]), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/**
 * Draw the channels of a map (C, H, W) as tiles, each on its own scale, with a gap between.
 * @param {Float32Array} values
 * @param {number[]} shape Channels, height and width.
 * @param {object} options `scale`: pixels on the screen; `label`: what it shows, in words;
 *   `frames`: of each channel the colour around its tile.
 */
export function tiles(values, [channels, height, width], { label, scale = 4, frames = null }) {
  const gap = Math.max(1, Math.round(width / 12));
  const columns = columnsOf(channels, height, width);
  const rows = Math.ceil(channels / columns);
  const [wide, high] = [columns * (width + gap) + gap, rows * (height + gap) + gap];
  const canvas = make("canvas", { width: wide, height: high, role: "img", "aria-label": label });
  canvas.style.width = `${wide * scale}px`;
  const context = canvas.getContext("2d");
  for (let c = 0; c < channels; c++) {
    const map = values.subarray(c * height * width, (c + 1) * height * width);
    const image = context.createImageData(width, height);
    const paint = colours(rangeOf(map));
    for (let i = 0; i < map.length; i++) {
      image.data.set(paint(map[i]), 4 * i);
      image.data[4 * i + 3] = 255;
    }
    const [row, column] = [Math.floor(c / columns), c % columns];
    const [x, y] = [column * (width + gap), row * (height + gap)];
    if (frames) {
      context.fillStyle = frames[c];
      context.fillRect(x, y, width + 2 * gap, height + 2 * gap);
    }
    context.putImageData(image, x + gap, y + gap);
  }
  return canvas;
}

/** Return how many tiles stand side by side, so that all together are about as high as wide. */
function columnsOf(channels, height, width) {
  return Math.ceil(Math.sqrt((channels * height) / width));
}

/** Return how many pixels of the screen a number takes where all tiles are `size` wide. */
export function scaleOf([channels, height, width], size) {
  return Math.min(8, Math.max(0.5, size / (columnsOf(channels, height, width) * (width + 1))));
}

/** Draw an image (H, W, C) of bytes, grey or coloured. */
export function picture({ pixels, height, width, channels }, label, scale = 1) {
  const canvas = make("canvas", { width, height, role: "img", "aria-label": label });
  canvas.style.width = `${width * scale}px`;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) {
      image.data[4 * i + c] = pixels[i * channels + (channels === 1 ? 0 : c)];
    }
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
