// Images as the zoo reads them: Pillow's grey, Pillow's resizing, number by number.

/** Pixels a side, and all of them, that an image may have. */
export const LARGEST_SIDE = 8192;
const MOST_PIXELS = 40e6;

const TYPES = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"];

/** Return width and height that a file says it has, before its pixels are unpacked; null if not known. */
export function saidSize(head) {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const text = (from, count) => String.fromCharCode(...head.subarray(from, from + count));
  if (text(1, 3) === "PNG") return [view.getUint32(16), view.getUint32(20)];
  if (text(0, 3) === "GIF") return [view.getUint16(6, true), view.getUint16(8, true)];
  if (text(0, 2) === "BM") return [view.getInt32(18, true), Math.abs(view.getInt32(22, true))];
  if (text(8, 4) === "WEBP") return webpSize(view, text(12, 4));
  if (head[0] === 0xff && head[1] === 0xd8) return jpegSize(view);
  return null;
}

function webpSize(view, kind) {
  if (kind === "VP8X") {
    const three = (at) => view.getUint16(at, true) + (view.getUint8(at + 2) << 16);
    return [three(24) + 1, three(27) + 1];
  }
  if (kind === "VP8L") {
    const bits = view.getUint32(21, true);
    return [(bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1];
  }
  return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
}

function jpegSize(view) {
  for (let at = 2; at + 9 < view.byteLength; ) {
    if (view.getUint8(at) !== 0xff) return null;
    const marker = view.getUint8(at + 1);
    const holdsSize = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (holdsSize) return [view.getUint16(at + 7), view.getUint16(at + 5)];
    at += 2 + view.getUint16(at + 2);
  }
  return null;
}

/**
 * Read an image file.
 * @param {Blob} file
 * @returns {Promise<{pixels: Uint8ClampedArray, height: number, width: number}>} Red, green, blue
 *   and opacity of each pixel.
 * @throws {Error} With the key of a sentence: "noImage", "tooLarge".
 */
export async function readImage(file) {
  if (!TYPES.includes(file.type)) throw new Error("noImage");
  const head = new Uint8Array(await file.slice(0, 1 << 20).arrayBuffer());
  const size = head.length > 32 ? saidSize(head) : null;
  if (!size) throw new Error("noImage");
  if (Math.max(...size) > LARGEST_SIDE || size[0] * size[1] > MOST_PIXELS) {
    throw new Error("tooLarge");
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error("noImage");
  }
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return { pixels: context.getImageData(0, 0, width, height).data, height, width };
}

/** Return an image of four bytes a pixel as grey, Pillow's L, or as red, green and blue. */
export function inChannels({ pixels, height, width }, channels) {
  const made = new Uint8Array(height * width * channels);
  for (let i = 0; i < height * width; i++) {
    const [r, g, b] = [pixels[4 * i], pixels[4 * i + 1], pixels[4 * i + 2]];
    if (channels === 1) made[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
    else made.set([r, g, b], 3 * i);
  }
  return { pixels: made, height, width, channels };
}

/** Return for each place of a side which pixels count how much: Pillow's triangle, in whole numbers. */
function shares(size, from, to, count) {
  const scale = (to - from) / count;
  const reach = Math.max(scale, 1);
  return Array.from({ length: count }, (_, place) => {
    const centre = from + (place + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const last = Math.min(Math.trunc(centre + reach + 0.5), size);
    const weights = [];
    for (let x = first; x < last; x++) {
      weights.push(Math.max(1 - Math.abs((x - centre + 0.5) / reach), 0));
    }
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => Math.trunc(0.5 + (weight / sum) * 2 ** 22)) };
  });
}

/**
 * Resize an image (H, W, C) of bytes bilinearly, as Pillow does, rounded after each direction.
 * @param {object} image
 * @param {number} height Of the result.
 * @param {number} width Of the result.
 * @param {number[]} box Left, top, right and bottom of the part that is taken.
 */
export function resized(image, height, width, box = [0, 0, image.width, image.height]) {
  const { channels } = image;
  const along = shares(image.width, box[0], box[2], width);
  const wide = new Uint8Array(image.height * width * channels);
  const round = (sum) => Math.min(Math.floor((sum + 2 ** 21) / 2 ** 22), 255);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < width; x++) {
      const { first, weights } = along[x];
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) {
          sum += weights[k] * image.pixels[(y * image.width + first + k) * channels + c];
        }
        wide[(y * width + x) * channels + c] = round(sum);
      }
    }
  }
  const down = shares(image.height, box[1], box[3], height);
  const pixels = new Uint8Array(height * width * channels);
  for (let y = 0; y < height; y++) {
    const { first, weights } = down[y];
    for (let i = 0; i < width * channels; i++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++)
        sum += weights[k] * wide[(first + k) * width * channels + i];
      pixels[y * width * channels + i] = round(sum);
    }
  }
  return { pixels, height, width, channels };
}

/** Return a whole number nearby, halves to the even one, as Python rounds. */
function rounded(number) {
  const below = Math.floor(number);
  const part = number - below;
  if (part === 0.5) return below + (below % 2);
  return part < 0.5 ? below : below + 1;
}

/** Bring an image to a net's size: `crop` its middle, `pad` it with black, or `squash` it. */
export function fitted(image, [height, width], how) {
  if (image.height === height && image.width === width) return image;
  if (how === "squash") return resized(image, height, width);
  const ratios = [image.width / width, image.height / height];
  if (how === "pad") {
    const longest = Math.max(...ratios);
    const [wide, high] = [image.width, image.height].map((n) => Math.max(1, rounded(n / longest)));
    return placed(
      resized(image, high, wide),
      height,
      width,
      (height - high) >> 1,
      (width - wide) >> 1,
    );
  }
  const shortest = Math.min(...ratios);
  const [left, top] = [
    (image.width - width * shortest) / 2,
    (image.height - height * shortest) / 2,
  ];
  return resized(image, height, width, [
    left,
    top,
    left + width * shortest,
    top + height * shortest,
  ]);
}

function placed(image, height, width, top, left) {
  const { channels } = image;
  const pixels = new Uint8Array(height * width * channels);
  for (let y = 0; y < image.height; y++) {
    const row = image.pixels.subarray(y * image.width * channels, (y + 1) * image.width * channels);
    pixels.set(row, ((y + top) * width + left) * channels);
  }
  return { pixels, height, width, channels };
}

/** Continue an image below and to the right to multiples of a number, mirrored at its border. */
export function extended(image, multiple, least) {
  const [height, width] = [image.height, image.width].map((n) =>
    Math.max(Math.ceil(n / multiple) * multiple, least),
  );
  const { channels } = image;
  const pixels = new Uint8Array(height * width * channels);
  const inside = (place, size) => {
    const period = Math.max(2 * size - 2, 1);
    const at = place % period;
    return at < size ? at : period - at;
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (inside(y, image.height) * image.width + inside(x, image.width)) * channels;
      pixels.set(image.pixels.subarray(from, from + channels), (y * width + x) * channels);
    }
  }
  return { pixels, height, width, channels };
}

/** Return bytes (H, W, C) as (C, H, W), as nets take them. */
export function channelsFirst({ pixels, height, width, channels }) {
  const made = new Uint8Array(pixels.length);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < channels; c++) made[c * height * width + i] = pixels[i * channels + c];
  }
  return made;
}
