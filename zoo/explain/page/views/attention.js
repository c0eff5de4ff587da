// Which tokens each token takes from, layer by layer and head by head.

import { heatmap } from "zoo/canvas.js";
import { choice, make } from "zoo/dom.js";
import { bars } from "zoo/views/answer.js";

const WORDS = {
  en: {
    attention: "Attention",
    layer: "Layer",
    head: "Head",
    from: "Token",
    matrix: "Weights of head {head}: a row a token that looks, a column a token that is looked at",
    row: "What token {place}, “{name}”, takes from",
    note: "Each row sums to 1. Bright: much is taken.",
    average: "mean of all",
    last: "last",
  },
  ko: {
    attention: "어텐션",
    layer: "층",
    head: "헤드",
    from: "토큰",
    matrix: "헤드 {head}의 가중치: 행은 보는 토큰, 열은 보이는 토큰",
    row: "{place}번째 토큰 “{name}”이(가) 가져오는 것",
    note: "각 행의 합은 1입니다. 밝을수록 많이 가져옵니다.",
    average: "모두의 평균",
    last: "마지막",
  },
};

function create(page) {
  const { t } = page;
  const taps = page.data.facts.taps.filter(({ kind }) => kind === "attention");
  const place = make("div");
  const rows = make("span");
  let [layer, head, looking, latest] = [0, "average", "last", null];

  /** Return the weights (T, T) that are chosen. */
  function weights() {
    const { data, dims } = latest.outputs[taps[layer].outputs[0]];
    const [, heads, count] = dims;
    const size = count * count;
    if (head !== "average") return [data.subarray(head * size, (head + 1) * size), count];
    const mean = new Float32Array(size);
    for (let i = 0; i < heads * size; i++) mean[i % size] += data[i] / heads;
    return [mean, count];
  }

  function draw() {
    if (!latest) return;
    const [values, count] = weights();
    const names = latest.about.ids.map((id) => page.tokenizer.show(id));
    const at = looking === "last" || Number(looking) >= count ? count - 1 : Number(looking);
    const own = values.subarray(at * count, (at + 1) * count);
    const numbered = names.map((name, i) => `${i + 1} ${name}`);
    const options = [["last", t("last")], ...numbered.map((name, i) => [String(i), name])];
    const change = (value) => {
      looking = value;
      draw();
    };
    rows.replaceChildren(choice({ label: t("from"), options, value: looking, change }));
    const scale = Math.max(2, Math.min(22, Math.floor(420 / count)));
    place.replaceChildren(
      make(
        "div.flow",
        {},
        heatmap(values, count, count, {
          scale,
          range: [0, 1],
          label: t("matrix", { head: head === "average" ? t("average") : head + 1 }),
        }),
        make(
          "div.grow",
          {},
          make("h3", {}, t("row", { place: at + 1, name: names[at] })),
          ...bars(numbered, Array.from(own), page.t),
        ),
      ),
    );
  }

  const heads = taps[0].heads;
  const options = Array.from({ length: heads }, (_, i) => [String(i), String(i + 1)]);
  return {
    elements: [
      make(
        "div.row",
        {},
        choice({
          label: t("layer"),
          options: taps.map(({ module }, i) => [String(i), `${i + 1} · ${module}`]),
          value: "0",
          change: (value) => {
            layer = Number(value);
            draw();
          },
        }),
        choice({
          label: t("head"),
          options: [["average", t("average")], ...options],
          value: "average",
          change: (value) => {
            head = value === "average" ? value : Number(value);
            draw();
          },
        }),
        rows,
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
  order: 40,
  title: "attention",
  words: WORDS,
  fits: ({ facts }) => facts.taps?.some(({ kind }) => kind === "attention"),
  create,
};
