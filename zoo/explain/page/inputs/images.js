// Where images come from: a drawing, a file, or one that came with the page.

import { picture } from "zoo/canvas.js";
import { make } from "zoo/dom.js";
import { bytes, tensor } from "zoo/engine.js";
import { channelsFirst, extended, fitted, inChannels, readImage } from "zoo/image.js";

const WORDS = {
  en: {
    images: "Image",
    given: "Images that came with this page",
    from: "Image {name}",
    draw: "Draw with mouse, finger or keyboard (arrows move, space paints)",
    clear: "Clear",
    file: "Choose a file …",
    drop: "or drop one here",
    noImage: "{name} is no image that can be read here: take a PNG, JPEG, WebP, GIF or BMP.",
    tooLarge:
      "{name} is too large: take an image of at most 8,192 pixels a side and 40 million in all.",
    drawn: "a drawing",
    seen: "What the net sees, {size}",
    truth: "labelled {label}",
  },
  ko: {
    images: "이미지",
    given: "이 페이지에 담긴 이미지",
    from: "이미지 {name}",
    draw: "마우스, 손가락 또는 키보드로 그리기 (화살표로 이동, 스페이스로 칠하기)",
    clear: "지우기",
    file: "파일 선택 …",
    drop: "또는 여기에 끌어다 놓기",
    noImage: "{name}은(는) 읽을 수 있는 이미지가 아닙니다. PNG, JPEG, WebP, GIF, BMP를 사용하세요.",
    tooLarge: "{name}이(가) 너무 큽니다. 한 변 8,192픽셀, 전체 4천만 픽셀 이하여야 합니다.",
    drawn: "그림",
    seen: "신경망이 보는 것, {size}",
    truth: "정답 {label}",
  },
};

const BOARD = 24; // cells of the drawing, a side
// A zigzag from corner to corner, in shares of the board.
const FIRST = [
  [0.25, 0.25],
  [0.75, 0.25],
  [0.25, 0.75],
  [0.75, 0.75],
];
const LARGEST = 256; // pixels a side of an image to be segmented here

/** Bring an image of the user's to what the net takes. */
function prepared(image, facts) {
  const own = inChannels(image, facts.channels);
  if (facts.task !== "segmentation") return fitted(own, facts.image_size, facts.resize);
  if (!facts.multiple_of) return fitted(own, facts.image_size, "crop");
  const longest = Math.max(own.height, own.width) / LARGEST;
  if (longest <= 1) return own;
  const [height, width] = [own.height, own.width].map((n) => Math.max(1, Math.round(n / longest)));
  return fitted(own, [height, width], "squash");
}

function create(page) {
  const { facts, samples } = page.data;
  const { t } = page;
  const seen = make("figure");

  /** Ask the net about bytes (H, W, C) of the size that it takes. */
  function ask(image, about) {
    const enough = facts.multiple_of ? extended(image, facts.multiple_of, facts.smallest) : image;
    const dims = [1, image.channels, enough.height, enough.width];
    const size = `${image.channels} × ${image.height} × ${image.width}`;
    const scale = Math.max(1, Math.floor(140 / image.width));
    const label = about.label === undefined ? "" : `; ${t("truth", { label: about.label })}`;
    seen.replaceChildren(
      picture(image, about.name, scale),
      make("figcaption", {}, `${t("seen", { size })}: ${about.name}${label}`),
    );
    const images = tensor("uint8", channelsFirst(enough), dims);
    return page.ask({ images }, { ...about, image });
  }

  const given = samples.map((sample, number) => {
    const image = { ...sample, pixels: bytes(sample.pixels) };
    const scale = 48 / Math.max(image.width, image.height);
    const name = t("from", { name: sample.name });
    const thumb = picture(image, name, scale);
    const attributes = { "aria-label": name };
    const take = () => ask(image, { ...sample, name, number });
    return { button: make("button.thumb", { ...attributes, onclick: take }, thumb), take };
  });

  async function take(file) {
    try {
      await ask(prepared(await readImage(file), facts), { name: file.name });
    } catch (error) {
      page.say(t(error.message, { name: file.name }), true);
    }
  }

  const chooser = make("input.hidden", {
    type: "file",
    accept: "image/png,image/jpeg,image/webp,image/gif,image/bmp",
    onchange: () => chooser.files[0] && take(chooser.files[0]),
  });
  const place = make(
    "div.row",
    {
      ondragover: (event) => {
        event.preventDefault();
        place.classList.add("drop");
      },
      ondragleave: () => place.classList.remove("drop"),
      ondrop: (event) => {
        event.preventDefault();
        place.classList.remove("drop");
        if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
      },
    },
    make("label.file", {}, t("file"), chooser),
    make("span.soft", {}, t("drop")),
  );
  // A line is a little wider than what becomes a pixel, or it would be lost between two.
  const line = Math.max(22, (1.3 * 10 * BOARD) / Math.min(...(facts.image_size ?? [BOARD])));
  const board = drawing(page, line, (image) => ask(prepared(image, facts), { name: t("drawn") }));
  const rows = given.length
    ? [make("p.soft", {}, t("given")), make("div.row", {}, ...given.map(({ button }) => button))]
    : [];
  return {
    elements: [...rows, make("div.flow", {}, make("div", {}, ...board.elements, place), seen)],
    start: () => (given.length ? given[0].take() : board.begin()),
  };
}

/** A board to draw on in white on black; each change is told as an image. */
function drawing(page, line, changed) {
  const { t } = page;
  const size = 10 * BOARD;
  const canvas = make("canvas.draw", {
    width: size,
    height: size,
    tabindex: 0,
    role: "application",
    "aria-label": t("draw"),
  });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const cursor = { x: size / 2, y: size / 2 };
  let last = null;

  const marker = make("div.marker", { "aria-hidden": "true" });
  const point = () => {
    marker.style.left = `${(100 * cursor.x) / size}%`;
    marker.style.top = `${(100 * cursor.y) / size}%`;
  };
  const clear = () => {
    context.fillStyle = "black";
    context.fillRect(0, 0, size, size);
  };
  const stroke = (from, to) => {
    context.strokeStyle = context.fillStyle = "white";
    context.lineWidth = line;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x + 0.01, to.y);
    context.stroke();
  };
  const tell = () => {
    const { data } = context.getImageData(0, 0, size, size);
    changed({ pixels: data, height: size, width: size });
  };
  const at = (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - left) / width, (event.clientY - top) / height];
    return { x: x * size, y: y * size };
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = at(event);
    stroke(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const next = at(event);
    stroke(last, next);
    last = next;
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => {
      if (last) tell();
      last = null;
    });
  }
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    const before = { ...cursor };
    if (move) {
      cursor.x = Math.min(Math.max(cursor.x + 10 * move[0], 5), size - 5);
      cursor.y = Math.min(Math.max(cursor.y + 10 * move[1], 5), size - 5);
      point();
    }
    if (event.key === " " || event.shiftKey) {
      stroke(before, cursor);
      tell();
    }
  });
  clear();
  point();
  return {
    elements: [
      make("p.soft", {}, t("draw")),
      make("div.board", {}, canvas, marker),
      make("div.row", {}, make("button", { onclick: clear }, t("clear"))),
    ],
    /** Draw something, so that a page to which no images came shows an answer. */
    begin: () => {
      const corners = FIRST.map(([x, y]) => ({ x: x * size, y: y * size }));
      corners.slice(1).forEach((corner, i) => {
        stroke(corners[i], corner);
      });
      tell();
    },
  };
}

export const input = {
  title: "images",
  half: true,
  words: WORDS,
  fits: ({ facts }) => facts.inputs === "images",
  create,
};
