// Mean and deviation of each channel before a norm and behind it.

import { choice, digits, make } from "zoo/dom.js";

const WORDS = {
  en: {
    norms: "What the norms do",
    which: "Norm",
    before: "Before",
    behind: "Behind",
    mean: "mean",
    deviation: "deviation",
    channel: "Channel",
    table: "All channels as a table",
    note: "A line a channel, from its mean less its deviation to its mean plus its deviation, over this image's pixels.",
    plot: "Means of {count} channels from {low} to {high} before, from {least} to {most} behind",
  },
  ko: {
    norms: "정규화가 하는 일",
    which: "정규화 층",
    before: "이전",
    behind: "이후",
    mean: "평균",
    deviation: "표준편차",
    channel: "채널",
    table: "모든 채널을 표로 보기",
    note: "선 하나가 채널 하나이며, 이 이미지의 픽셀에 대한 평균 ± 표준편차 범위입니다.",
    plot: "채널 {count}개의 평균: 이전 {low}–{high}, 이후 {least}–{most}",
  },
};

const SIZE = { width: 460, height: 200, edge: 34 };

function create(page) {
  const { t } = page;
  const taps = page.data.facts.taps.filter(({ kind }) => kind === "norm");
  const place = make("div");
  let [chosen, latest] = [0, null];

  function draw() {
    if (!latest) return;
    const { data, dims } = latest.outputs[taps[chosen].outputs[0]];
    const count = dims[2];
    const [before, spreadBefore, behind, spreadBehind] = [0, 1, 2, 3].map((i) =>
      data.subarray(i * count, (i + 1) * count),
    );
    const rows = Array.from({ length: count }, (_, c) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, String(c)),
        ...[before, spreadBefore, behind, spreadBehind].map((values) =>
          make("td", {}, digits(values[c])),
        ),
      ),
    );
    const heads = ["channel", "before", "deviation", "behind", "deviation"];
    const [low, high] = [Math.min(...before), Math.max(...before)];
    const [least, most] = [Math.min(...behind), Math.max(...behind)];
    const given = [low, high, least, most].map((each) => digits(each, 2));
    const label = t("plot", {
      count,
      low: given[0],
      high: given[1],
      least: given[2],
      most: given[3],
    });
    place.replaceChildren(
      make(
        "div.flow",
        {},
        plot(t("before"), before, spreadBefore, label),
        plot(t("behind"), behind, spreadBehind, label),
      ),
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
            make("tr", {}, ...heads.map((key) => make("th", { scope: "col" }, t(key)))),
            ...rows,
          ),
        ),
      ),
    );
  }

  const options = taps.map(({ module, type }, i) => [String(i), `${module} · ${type}`]);
  return {
    elements: [
      choice({
        label: t("which"),
        options,
        value: "0",
        change: (value) => {
          chosen = Number(value);
          draw();
        },
      }),
      place,
      make("p.soft", {}, t("note")),
    ],
    show(result) {
      latest = result;
      draw();
    },
  };
}

/** Draw a line for each channel, from below its mean to above it. */
function plot(title, means, spreads, label) {
  const { width, height, edge } = SIZE;
  const canvas = make("canvas", { width, height, role: "img", "aria-label": `${title}. ${label}` });
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const [ink, bar] = ["--ink", "--accent"].map((name) => style.getPropertyValue(name));
  const low = Math.min(0, ...means.map((mean, c) => mean - spreads[c]));
  const high = Math.max(0, ...means.map((mean, c) => mean + spreads[c]));
  const y = (value) => height - edge / 2 - ((value - low) / (high - low || 1)) * (height - edge);
  const x = (c) => edge + ((c + 0.5) / means.length) * (width - edge - 6);
  context.strokeStyle = context.fillStyle = ink;
  context.font = "11px system-ui, sans-serif";
  for (const value of new Set([low, 0, high])) {
    context.globalAlpha = 0.35;
    context.fillRect(edge, y(value), width - edge, 1);
    context.globalAlpha = 1;
    context.fillText(value.toPrecision(2), 0, y(value) + 4);
  }
  context.fillStyle = context.strokeStyle = bar;
  means.forEach((mean, c) => {
    const thick = Math.max(1, Math.min(4, (width - edge) / means.length - 1));
    const [top, bottom] = [y(mean + spreads[c]), y(mean - spreads[c])];
    context.globalAlpha = 0.6;
    context.fillRect(x(c) - thick / 2, top, thick, Math.max(bottom - top, 1));
    context.globalAlpha = 1;
    context.fillRect(x(c) - thick / 2 - 1, y(mean) - 1, thick + 2, 2);
  });
  return make("figure", {}, make("figcaption", {}, title), canvas);
}

export const view = {
  order: 50,
  title: "norms",
  words: WORDS,
  fits: ({ facts }) => facts.taps?.some(({ kind }) => kind === "norm"),
  create,
};
