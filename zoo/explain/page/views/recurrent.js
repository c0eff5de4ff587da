// What a recurrent layer holds at each token, and how far its gates are open.

import { heatmap } from "zoo/canvas.js";
import { choice, digits, make } from "zoo/dom.js";

const WORDS = {
  en: {
    recurrent: "What it remembers",
    layer: "Layer",
    shown: "Shown",
    hidden: "hidden state",
    input: "input gate",
    forget: "forget gate",
    cell: "new content",
    output: "output gate",
    reset: "reset gate",
    update: "update gate",
    new: "new content",
    label: "{what} of {layer}: a row a unit, a column a token",
    note: "A row is a unit, a column a token. States and new content lie between -1 (blue) and 1 (red); a gate between 0 (shut) and 1 (open, bright).",
    back: "This layer reads from the end to the beginning.",
    mean: "Mean over units, by token",
  },
  ko: {
    recurrent: "무엇을 기억하는가",
    layer: "층",
    shown: "표시",
    hidden: "은닉 상태",
    input: "입력 게이트",
    forget: "망각 게이트",
    cell: "새 내용",
    output: "출력 게이트",
    reset: "리셋 게이트",
    update: "업데이트 게이트",
    new: "새 내용",
    label: "{layer}의 {what}: 행은 유닛, 열은 토큰",
    note: "행은 유닛, 열은 토큰입니다. 상태와 새 내용은 -1(파랑)에서 1(빨강), 게이트는 0(닫힘)에서 1(열림, 밝음) 사이입니다.",
    back: "이 층은 끝에서 처음으로 읽습니다.",
    mean: "유닛 평균, 토큰별",
  },
};

const SIGNED = ["hidden", "cell", "new"];

/**
 * Return what is shown at each token, unit by unit: (units, T).
 * @param {object} tap Of a layer; one whose name says backward has its first step at the last token.
 * @param {object} outputs The net's.
 * @param {number} gate Which gate, or -1 for the state.
 */
export function byUnit(tap, outputs, gate) {
  const tensor = outputs[tap.outputs[gate < 0 ? 0 : 1]];
  const [count, units] = [tensor.dims[1], tensor.dims.at(-1)];
  const gates = gate < 0 ? 1 : tensor.dims[2];
  const isBack = tap.module.includes("backward");
  const values = new Float32Array(units * count);
  for (let step = 0; step < count; step++) {
    const place = isBack ? count - 1 - step : step;
    for (let unit = 0; unit < units; unit++) {
      values[unit * count + place] = tensor.data[(step * gates + Math.max(gate, 0)) * units + unit];
    }
  }
  return { values, units, count };
}

function create(page) {
  const { t } = page;
  const taps = page.data.facts.taps.filter(({ kind }) => kind === "recurrent");
  const place = make("div");
  let [layer, what, latest] = [0, "hidden", null];

  function draw() {
    if (!latest) return;
    const tap = taps[layer];
    const { values, units, count } = byUnit(tap, latest.outputs, tap.parts.indexOf(what));
    const names = latest.about.ids.map((id) => page.tokenizer.show(id));
    const scale = Math.max(3, Math.min(18, Math.floor(760 / count)));
    const label = t("label", { what: t(what), layer: tap.module });
    const means = names.map((name, i) => {
      let sum = 0;
      for (let unit = 0; unit < units; unit++) sum += values[unit * count + i];
      return make(
        "li.token",
        {},
        make("span.piece", {}, name),
        make("span.soft", {}, digits(sum / units, 2)),
      );
    });
    const canvas = heatmap(values, units, count, {
      scale,
      label,
      range: SIGNED.includes(what) ? [-1, 1] : [0, 1],
    });
    canvas.style.height = `${units * Math.min(scale, 5)}px`;
    place.replaceChildren(
      tap.module.includes("backward") ? make("p.soft", {}, t("back")) : "",
      make("div.scroll", { tabindex: 0, role: "region", "aria-label": label }, canvas),
      make("h3", {}, t("mean")),
      make("ol.tokens", { tabindex: 0, "aria-label": t("mean") }, ...means),
    );
  }

  const shown = ["hidden", ...taps[0].parts];
  return {
    elements: [
      make(
        "div.row",
        {},
        choice({
          label: t("layer"),
          options: taps.map(({ module, type }, i) => [String(i), `${module} · ${type}`]),
          value: "0",
          change: (value) => {
            layer = Number(value);
            draw();
          },
        }),
        choice({
          label: t("shown"),
          options: shown.map((key) => [key, t(key)]),
          value: "hidden",
          change: (value) => {
            what = value;
            draw();
          },
        }),
      ),
      place,
      make("p.soft", {}, t("note")),
    ],
    show(result) {
      latest = result;
      draw();
    },
  };
}

export const view = {
  order: 50,
  title: "recurrent",
  words: WORDS,
  fits: ({ facts }) => facts.taps?.some(({ kind }) => kind === "recurrent"),
  create,
};
