// What a language model thinks comes next, under a temperature and a top-k.

import { digits, make, slider } from "zoo/dom.js";
import { entropy } from "zoo/views/answer.js";

const WORDS = {
  en: {
    next: "What comes next",
    temperature: "Temperature",
    topk: "Top-k",
    all: "all",
    choose: "Go on with “{name}”",
    draw: "Draw one",
    entropy: "Entropy: {nats} nats, as of {like} equally likely tokens",
    note: "Click a token to go on with it, or draw one by these probabilities.",
  },
  ko: {
    next: "다음에 올 것",
    temperature: "온도",
    topk: "Top-k",
    all: "모두",
    choose: "“{name}”(으)로 이어 쓰기",
    draw: "하나 뽑기",
    entropy: "엔트로피: {nats} nats, 같은 확률의 토큰 {like}개와 같음",
    note: "토큰을 눌러 이어 쓰거나, 이 확률에 따라 하나를 뽑으세요.",
  },
};

const SHOWN = 15;

/** Return probabilities of logits under a temperature, all but the k highest at 0. */
export function chances(logits, temperature, k) {
  const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a]);
  const kept = k ? order.slice(0, k) : order;
  const highest = logits[order[0]];
  const made = new Float64Array(logits.length);
  let sum = 0;
  for (const i of kept) {
    made[i] = Math.exp((logits[i] - highest) / temperature);
    sum += made[i];
  }
  for (const i of kept) made[i] /= sum;
  return { probabilities: made, order: kept };
}

function create(page) {
  const { t } = page;
  const place = make("div", { "aria-live": "polite" });
  let [temperature, k, latest] = [1, 0, null];

  const goOn = (id) => page.write(page.tokenizer.decode([...latest.about.ids, id]));

  function draw() {
    if (!latest) return;
    const { probabilities, order } = chances(latest.outputs.logits.data, temperature, k);
    const rows = order.slice(0, SHOWN).flatMap((id, i) => {
      const name = page.tokenizer.show(id);
      const fill = make(i ? "div.fill" : "div.fill.first");
      fill.style.width = `${100 * probabilities[id]}%`;
      const choose = t("choose", { name });
      return [
        make("button.piece", { "aria-label": choose, onclick: () => goOn(id) }, name),
        make("div.track", {}, fill),
        make("span.number", {}, digits(probabilities[id], 4)),
      ];
    });
    const nats = entropy(Array.from(probabilities));
    place.replaceChildren(
      make("div.bars", {}, ...rows),
      make("p", {}, t("entropy", { nats: digits(nats), like: digits(Math.exp(nats), 1) })),
    );
  }

  function drawn() {
    const { probabilities, order } = chances(latest.outputs.logits.data, temperature, k);
    let rest = Math.random();
    const id = order.find((each) => {
      rest -= probabilities[each];
      return rest <= 0;
    });
    return goOn(id ?? order[0]);
  }

  return {
    elements: [
      place,
      slider({
        label: t("temperature"),
        min: -1,
        max: 1,
        step: 0.01,
        value: 0,
        show: (power) => digits(10 ** power, 2),
        change: (power) => {
          temperature = 10 ** power;
          draw();
        },
      }),
      slider({
        label: t("topk"),
        min: 0,
        max: 50,
        step: 1,
        value: 0,
        show: (count) => (count ? String(count) : t("all")),
        change: (count) => {
          k = count;
          draw();
        },
      }),
      make("button", { onclick: () => latest && drawn() }, t("draw")),
      make("p.soft", {}, t("note")),
    ],
    show(result) {
      latest = result;
      draw();
    },
  };
}

export const view = {
  order: 10,
  title: "next",
  half: true,
  words: WORDS,
  fits: ({ facts }) => facts.inputs === "tokens",
  create,
};
