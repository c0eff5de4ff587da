// How the prediction goes with one column, all others as they are (arXiv 1309.6392 calls the lines
// of single rows ICE; their mean over rows is partial dependence, Friedman 2001).

import { choice, digits, make } from "zoo/dom.js";
import { fed } from "zoo/inputs/table.js";

const WORDS = {
  en: {
    dependence: "What each column does",
    column: "Column",
    note: "The thick line: the mean over the rows that came along (partial dependence). The thin one: this row. Shaded: one deviation around the column's mean.",
    alone: "This row, with the column changed. Shaded: one deviation around the column's mean.",
    label: "Prediction from {low} to {high} while {column} goes from {from} to {to}",
    table: "The line as a table",
    mean: "mean of the rows",
    own: "this row",
  },
  ko: {
    dependence: "각 열이 하는 일",
    column: "열",
    note: "굵은 선은 함께 담긴 행들의 평균(부분 의존성)이고, 가는 선은 이 행입니다. 음영은 열 평균에서 표준편차 하나 범위입니다.",
    alone: "이 행에서 해당 열만 바꾼 것입니다. 음영은 열 평균에서 표준편차 하나 범위입니다.",
    label: "{column}이(가) {from}에서 {to}까지 변할 때 예측값 {low}–{high}",
    table: "선을 표로 보기",
    mean: "행들의 평균",
    own: "이 행",
  },
};

const POINTS = 25;
const SIZE = { width: 520, height: 240, edge: 56 };

function create(page) {
  const { facts, columns, samples } = page.data;
  const { t } = page;
  const names = [...facts.numbers, ...Object.keys(facts.categories)];
  const place = make("div");
  let column = names[0];
  let turn = 0;
  let row = null;

  /** Return the values that a column goes through. */
  function values() {
    if (!columns[column]) return facts.categories[column];
    const { mean, std } = columns[column];
    return Array.from({ length: POINTS }, (_, i) => mean + std * (-2 + (4 * i) / (POINTS - 1)));
  }

  async function draw() {
    if (!row) return;
    const mine = ++turn;
    const all = values();
    const others = samples.map((sample) => sample.row);
    const lines = [];
    for (const each of [row, ...others]) {
      const rows = all.map((value) => ({ ...each, [column]: value }));
      const { value } = await page.run(fed(rows, facts));
      lines.push(Array.from(value.data));
    }
    if (mine !== turn) return; // another column was chosen meanwhile
    const [own, ...rest] = lines;
    const mean = all.map((_, i) => rest.reduce((sum, line) => sum + line[i], 0) / rest.length);
    place.replaceChildren(...shown(all, own, rest.length ? mean : null));
  }

  function shown(all, own, mean) {
    const label = t("label", {
      column,
      low: digits(Math.min(...own)),
      high: digits(Math.max(...own)),
      from: columns[column] ? digits(all[0]) : all[0],
      to: columns[column] ? digits(all.at(-1)) : all.at(-1),
    });
    const rows = all.map((value, i) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, columns[column] ? digits(value) : value),
        make("td", {}, digits(own[i])),
        mean ? make("td", {}, digits(mean[i])) : null,
      ),
    );
    const heads = [column, t("own"), ...(mean ? [t("mean")] : [])];
    return [
      plot(all, own, mean, columns[column], label),
      make("p.soft", {}, t(mean ? "note" : "alone")),
      make(
        "details",
        {},
        make("summary", {}, t("table")),
        make(
          "div.scroll",
          { tabindex: 0, role: "region", "aria-label": t("table") },
          make(
            "table",
            {},
            make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head))),
            ...rows,
          ),
        ),
      ),
    ];
  }

  return {
    elements: [
      choice({
        label: t("column"),
        options: names.map((name) => [name, name]),
        value: column,
        change: (name) => {
          column = name;
          draw();
        },
      }),
      place,
    ],
    show({ about }) {
      row = about.row;
      draw();
    },
  };
}

function plot(all, own, mean, column, label) {
  const { width, height, edge } = SIZE;
  const canvas = make("canvas", { width, height, role: "img", "aria-label": label });
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const [ink, line, soft] = ["--ink", "--accent", "--line"].map((n) => style.getPropertyValue(n));
  const every = [...own, ...(mean ?? [])];
  const [low, high] = [Math.min(...every), Math.max(...every)];
  const x = (i) => edge + (i / Math.max(all.length - 1, 1)) * (width - edge - 12);
  const y = (value) => height - 28 - ((value - low) / (high - low || 1)) * (height - 44);
  if (column?.std) {
    context.fillStyle = soft;
    const [from, to] = [(all.length - 1) / 4, (3 * (all.length - 1)) / 4];
    context.fillRect(x(from), 8, x(to) - x(from), height - 36);
  }
  context.fillStyle = ink;
  context.font = "12px system-ui, sans-serif";
  for (const value of [low, high]) context.fillText(value.toPrecision(4), 0, y(value) + 4);
  const ends = column ? [all[0].toPrecision(3), all.at(-1).toPrecision(3)] : [all[0], all.at(-1)];
  context.fillText(ends[0], edge, height - 8);
  context.textAlign = "right";
  context.fillText(ends[1], width - 4, height - 8);
  context.strokeStyle = line;
  for (const [values, thick] of [
    [mean, 4],
    [own, 1.5],
  ]) {
    if (!values) continue;
    context.lineWidth = thick;
    context.beginPath();
    values.forEach((value, i) => {
      context.lineTo(x(i), y(value));
    });
    context.stroke();
  }
  return canvas;
}

export const view = {
  order: 20,
  title: "dependence",
  words: WORDS,
  fits: ({ facts }) => facts.inputs === "table",
  create,
};
