// What the net answers: classes under a temperature, with the entropy of that.

import { digits, make, slider } from "zoo/dom.js";

const WORDS = {
  en: {
    answer: "Answer",
    temperature: "Temperature",
    entropy: "Entropy: {nats} of at most {most} nats",
    fitted:
      "The net's own temperature is {own}. A higher one brings the classes closer together; the order stays.",
    several: "Each label on its own: all above {threshold} hold.",
    more: "{count} more classes",
    took: "{ms} ms",
  },
  ko: {
    answer: "답",
    temperature: "온도",
    entropy: "엔트로피: 최대 {most} 중 {nats} nats",
    fitted:
      "이 신경망의 온도는 {own}입니다. 높이면 클래스 확률이 서로 가까워지고, 순서는 그대로입니다.",
    several: "레이블마다 따로 판단합니다. {threshold}보다 크면 해당합니다.",
    more: "그 밖의 클래스 {count}개",
    took: "{ms} ms",
  },
};

const SHOWN = 12;

/** Return probabilities under another temperature; what is given are those under `own`. */
export function heated(probabilities, own, temperature) {
  const logits = Array.from(
    probabilities,
    (p) => (Math.log(Math.max(p, 1e-38)) * own) / temperature,
  );
  const highest = Math.max(...logits);
  const parts = logits.map((logit) => Math.exp(logit - highest));
  const sum = parts.reduce((a, b) => a + b, 0);
  return parts.map((part) => part / sum);
}

/** Return the same of labels that are each true or not. */
export function heatedEach(probabilities, own, temperature) {
  return Array.from(probabilities, (p) => {
    const clipped = Math.min(Math.max(p, 1e-7), 1 - 1e-7);
    return 1 / (1 + Math.exp((-Math.log(clipped / (1 - clipped)) * own) / temperature));
  });
}

/** Return the entropy of probabilities, in nats. */
export function entropy(probabilities) {
  return -probabilities.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0);
}

/** Return bars with names and numbers, the highest first. */
export function bars(names, values, t) {
  const order = values.map((_, i) => i).sort((a, b) => values[b] - values[a]);
  const rows = order.slice(0, SHOWN).flatMap((i, place) => {
    const fill = make(place ? "div.fill" : "div.fill.first");
    fill.style.width = `${100 * values[i]}%`;
    return [
      make("span.name", {}, names[i]),
      make("div.track", {}, fill),
      make("span.number", {}, digits(values[i], 4)),
    ];
  });
  const hidden = order.length - SHOWN;
  return [
    make("div.bars", {}, ...rows),
    hidden > 0 ? make("p.soft", {}, t("more", { count: hidden })) : null,
  ].filter(Boolean);
}

function create(page) {
  const { facts } = page.data;
  const { t } = page;
  const several = facts.threshold !== undefined;
  const place = make("div", { "aria-live": "polite" });
  let temperature = facts.temperature;
  let latest = null;

  function draw() {
    if (!latest) return;
    const given = latest.outputs.probabilities.data;
    const found = several
      ? heatedEach(given, facts.temperature, temperature)
      : heated(given, facts.temperature, temperature);
    const most = Math.log(found.length);
    const best = found.indexOf(Math.max(...found));
    place.replaceChildren(
      several ? make("p.soft", {}, t("several", { threshold: facts.threshold })) : "",
      several ? "" : make("p.answer", {}, facts.class_names[best]),
      ...bars(facts.class_names, found, t),
      several
        ? ""
        : make("p", {}, t("entropy", { nats: digits(entropy(found)), most: digits(most) })),
      make("p.soft", {}, t("took", { ms: latest.milliseconds.toFixed(1) })),
    );
  }

  // A slider on the logarithm, as a temperature of 0.1 is as far from 1 as one of 10.
  const heat = slider({
    label: t("temperature"),
    min: -1,
    max: 1,
    step: 0.01,
    value: Math.log10(temperature),
    show: (power) => digits(10 ** power, 2),
    change: (power) => {
      temperature = 10 ** power;
      draw();
    },
  });
  return {
    elements: [place, heat, make("p.soft", {}, t("fitted", { own: digits(facts.temperature, 2) }))],
    show(result) {
      latest = result;
      draw();
    },
  };
}

export const view = {
  order: 10,
  title: "answer",
  half: true,
  words: WORDS,
  fits: ({ facts }) => facts.task === "classification",
  create,
};
