// What each block makes of the image: its maps; where maps are joined, what is joined to what.

import { PARTS, scaleOf, tiles } from "zoo/canvas.js";
import { make } from "zoo/dom.js";

const WORDS = {
  en: {
    maps: "Through the net",
    order:
      "Every block, in the order of computation. A tile is a channel, on its own scale: bright is high; where numbers of both signs occur, red is above zero and blue below.",
    concat:
      "Joined: {parts} parts of {height} × {width} lie behind one another, {channels} channels in all. They can, because every branch keeps height and width; only the numbers of channels differ, and they add up.",
    sum: "Added: two maps of the same shape, place by place. The shortcut carries the input past the branch, which only has to learn what to change.",
    channels: "channels {from} to {to}",
    first: "the first {shown} of {channels} channels",
    tiles: "{name}: {channels} channels of {height} by {width}",
    whole: "together",
    framed: "each tile framed in its branch's colour",
    total: "the sum",
  },
  ko: {
    maps: "신경망 속으로",
    order:
      "계산 순서대로 본 모든 블록입니다. 타일 하나가 채널 하나이며, 밝을수록 큰 값입니다. 부호가 섞여 있으면 빨강은 0보다 크고 파랑은 작습니다.",
    concat:
      "이어 붙임: {height} × {width} 크기의 {parts}개 부분이 채널 방향으로 이어져 모두 {channels}채널이 됩니다. 모든 갈래가 높이와 너비를 그대로 유지하기 때문에 가능하며, 채널 수만 서로 다르고 그 수는 더해집니다.",
    sum: "더함: 모양이 같은 두 맵을 자리마다 더합니다. 지름길은 입력을 그대로 전하고, 갈래는 바꿀 것만 배우면 됩니다.",
    channels: "채널 {from}–{to}",
    first: "{channels}개 채널 중 처음 {shown}개",
    tiles: "{name}: {height}×{width} 채널 {channels}개",
    whole: "합친 것",
    framed: "테두리 색은 그 타일이 나온 갈래",
    total: "합",
  },
};

const SIZE = 288; // pixels that the tiles of a map take, about

const KINDS = ["map", "concat", "sum"];

function create(page) {
  const { t } = page;
  const taps = page.data.facts.taps.filter(({ kind }) => KINDS.includes(kind));
  let latest = null;

  /** Draw one map with its shape under it. */
  function map(tensor, name, channels, words, { scale = null, frames = null } = {}) {
    const [, shown, height, width] = tensor.dims;
    const shape = [shown, height, width];
    const label = t("tiles", { name, channels: shown, height, width });
    const rest = channels > shown ? t("first", { shown, channels }) : "";
    return make(
      "figure",
      {},
      make("figcaption", {}, name),
      tiles(tensor.data, shape, { label, frames, scale: scale ?? scaleOf(shape, SIZE) }),
      make(
        "figcaption",
        {},
        make("span.shape", {}, `${channels} × ${height} × ${width} `),
        words,
        " ",
        rest,
      ),
    );
  }

  function joined(tap, outputs) {
    const [, , height, width] = outputs[0].dims;
    const all = tap.channels.at(-1);
    // One scale for all, so that a tile is as large in its branch as in the whole.
    const scale = scaleOf(outputs.at(-1).dims.slice(1), SIZE);
    const frames = tap.parts.flatMap((_, i) =>
      Array(tap.channels[i]).fill(PARTS[i % PARTS.length]),
    );
    let from = 0;
    const ranges = tap.parts.map((_, i) => {
      const range = { from, to: from + tap.channels[i] - 1 };
      from += tap.channels[i];
      return range;
    });
    const strip = make(
      "div.ranges",
      { "aria-hidden": "true" },
      ...tap.parts.map((name, i) => {
        const part = make("span", {}, name);
        part.style.flex = tap.channels[i];
        part.style.background = PARTS[i % PARTS.length];
        return part;
      }),
    );
    return [
      make("p", {}, t("concat", { parts: tap.parts.length, height, width, channels: all })),
      make(
        "div.flow",
        {},
        ...tap.parts.map((name, i) => {
          const figure = map(outputs[i], name, tap.channels[i], t("channels", ranges[i]), {
            scale,
          });
          figure.style.borderTop = `4px solid ${PARTS[i % PARTS.length]}`;
          return figure;
        }),
      ),
      make(
        "div.joins",
        {},
        strip,
        map(outputs.at(-1), t("whole"), all, t("framed"), { scale, frames }),
      ),
    ];
  }

  function added(tap, outputs) {
    return [
      make("p", {}, t("sum")),
      make(
        "div.flow",
        {},
        ...outputs.map((output, i) => map(output, tap.parts[i] ?? t("total"), tap.channels[i], "")),
      ),
    ];
  }

  function content(tap) {
    const outputs = tap.outputs.map((name) => latest.outputs[name]);
    if (tap.kind === "concat") return joined(tap, outputs);
    if (tap.kind === "sum") return added(tap, outputs);
    return [map(outputs[0], tap.module, tap.channels[0], "")];
  }

  const firstJoin = taps.findIndex(({ kind }) => kind !== "map");
  const blocks = taps.map((tap, i) => {
    const place = make("div");
    const title = `${tap.module} · ${tap.type}`;
    const block = make(
      "details",
      { open: i === 0 || i === firstJoin, ontoggle: () => draw() },
      make("summary", {}, title),
      place,
    );
    const draw = () => {
      // What is closed is drawn when it is opened: a deep net has thousands of tiles.
      if (block.open && latest) place.replaceChildren(...content(tap));
    };
    return { block, draw };
  });
  return {
    elements: [make("p.soft", {}, t("order")), ...blocks.map(({ block }) => block)],
    show(result) {
      latest = result;
      for (const { draw } of blocks) draw();
    },
  };
}

export const view = {
  order: 40,
  title: "maps",
  words: WORDS,
  fits: ({ facts }) => facts.taps?.some(({ kind }) => KINDS.includes(kind)),
  create,
};
