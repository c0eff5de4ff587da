// The class of each pixel, and how sure the net is of it.

import { heatmap, PARTS, picture } from "zoo/canvas.js";
import { choice, digits, make, slider } from "zoo/dom.js";

const WORDS = {
  en: {
    mask: "Mask",
    threshold: "Threshold",
    shown: "Class",
    share: "{share} % of the image",
    rule: "A pixel is shown as {name} where its probability is above the threshold.",
    overlay: "The image with {name} marked",
    surface: "Probability of {name}",
  },
  ko: {
    mask: "마스크",
    threshold: "임계값",
    shown: "클래스",
    share: "이미지의 {share} %",
    rule: "확률이 임계값보다 큰 픽셀을 {name}(으)로 표시합니다.",
    overlay: "{name}을(를) 표시한 이미지",
    surface: "{name}의 확률",
  },
};

function rgb(hex) {
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
}

function create(page) {
  const { t } = page;
  const { class_names: names } = page.data.facts;
  const place = make("div", { "aria-live": "polite" });
  let [threshold, shown, latest] = [0.5, Math.min(1, names.length - 1), null];

  function draw() {
    if (!latest) return;
    const { image } = latest.about;
    const { data, dims } = latest.outputs.probabilities;
    const [, , high, wide] = dims;
    const own = new Float32Array(image.height * image.width);
    for (let y = 0; y < image.height; y++) {
      for (let x = 0; x < image.width; x++) {
        own[y * image.width + x] = data[(shown * high + y) * wide + x];
      }
    }
    const marked = { ...image, channels: 3, pixels: new Uint8Array(own.length * 3) };
    const paint = rgb(PARTS[shown % PARTS.length]);
    let count = 0;
    own.forEach((p, i) => {
      const is = p > threshold;
      count += is;
      for (let c = 0; c < 3; c++) {
        const under = image.pixels[i * image.channels + (image.channels === 1 ? 0 : c)];
        marked.pixels[3 * i + c] = is ? 0.4 * under + 0.6 * paint[c] : under;
      }
    });
    const scale = Math.max(1, Math.floor(256 / image.width));
    const name = names[shown];
    place.replaceChildren(
      make(
        "div.flow",
        {},
        picture(marked, t("overlay", { name }), scale),
        heatmap(own, image.height, image.width, {
          scale,
          range: [0, 1],
          label: t("surface", { name }),
        }),
      ),
      make("p", {}, t("share", { share: digits((100 * count) / own.length, 1) })),
      make("p.soft", {}, t("rule", { name })),
    );
  }

  return {
    elements: [
      choice({
        label: t("shown"),
        options: names.map((name, i) => [String(i), name]),
        value: String(shown),
        change: (value) => {
          shown = Number(value);
          draw();
        },
      }),
      slider({
        label: t("threshold"),
        min: 0,
        max: 1,
        step: 0.01,
        value: threshold,
        show: (value) => digits(value, 2),
        change: (value) => {
          threshold = value;
          draw();
        },
      }),
      place,
    ],
    show(result) {
      latest = result;
      draw();
    },
  };
}

export const view = {
  order: 10,
  title: "mask",
  half: true,
  words: WORDS,
  fits: ({ facts }) => facts.task === "segmentation",
  create,
};
