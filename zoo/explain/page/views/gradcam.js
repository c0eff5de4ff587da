// Where the net looked for its answer (Grad-CAM, arXiv 1610.02391), of the images that came along.

import { heatmap, picture } from "zoo/canvas.js";
import { make } from "zoo/dom.js";
import { bytes } from "zoo/engine.js";
import { resized } from "zoo/image.js";

const WORDS = {
  en: {
    gradcam: "Where it looked",
    why: "Grad-CAM: the last map's channels, each weighed by how much the answer's logit rises with it. Bright parts speak for {name}.",
    none: "Known of the images that came with this page: gradients are computed when it is made.",
    heat: "Heat map for {name}",
    overlay: "The image, lit where it speaks for {name}",
  },
  ko: {
    gradcam: "어디를 보았는가",
    why: "Grad-CAM: 마지막 특징 맵의 채널을, 각 채널이 커질 때 답의 로짓이 얼마나 커지는지로 가중합니다. 밝은 부분이 {name}의 근거입니다.",
    none: "이 페이지에 담긴 이미지에 대해서만 볼 수 있습니다. 기울기는 페이지를 만들 때 계산됩니다.",
    heat: "{name}에 대한 히트맵",
    overlay: "{name}의 근거가 되는 곳을 비춘 이미지",
  },
};

/** Return the image's bytes (H, W, 3), a third of their light where nothing speaks for the answer. */
function lit({ pixels, channels }, heat) {
  const made = new Uint8Array(3 * heat.length);
  for (let i = 0; i < heat.length; i++) {
    const light = 1 / 3 + (2 / 3) * (heat[i] / 255);
    for (let c = 0; c < 3; c++) {
      const from = pixels[i * channels + (channels === 1 ? 0 : c)];
      // Orange is mixed in, so that what is black in the image is lit as well.
      made[3 * i + c] = light * (0.75 * from + 0.25 * [249, 142, 8][c] * (heat[i] / 255));
    }
  }
  return made;
}

function create(page) {
  const { t } = page;
  const { class_names: names } = page.data.facts;
  const place = make("div");
  return {
    elements: [place],
    show({ about }) {
      if (!about.gradcam) {
        place.replaceChildren(make("p.soft", {}, t("none")));
        return;
      }
      const { values, height, width, label } = about.gradcam;
      const map = { pixels: bytes(values), height, width, channels: 1 };
      const { image } = about;
      const large = resized(map, image.height, image.width);
      const scale = Math.max(1, Math.floor(200 / image.width));
      const heat = heatmap(large.pixels, image.height, image.width, {
        scale,
        range: [0, 255],
        label: t("heat", { name: names[label] }),
      });
      const over = { height: image.height, width: image.width, channels: 3 };
      over.pixels = lit(image, large.pixels);
      const both = t("overlay", { name: names[label] });
      place.replaceChildren(
        make("div.flow", {}, picture(image, about.name, scale), heat, picture(over, both, scale)),
        make("p.soft", {}, t("why", { name: names[label] })),
      );
    },
  };
}

export const view = {
  order: 20,
  title: "gradcam",
  words: WORDS,
  fits: ({ samples }) => samples.some((sample) => sample.gradcam),
  create,
};
