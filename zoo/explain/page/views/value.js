// The number that the net predicts.

import { digits, make } from "zoo/dom.js";

const WORDS = { en: { value: "Prediction" }, ko: { value: "예측값" } };

function create(page) {
  const place = make("p.answer", { "aria-live": "polite" });
  const { target_name: target } = page.data.facts;
  return {
    elements: [place],
    show({ outputs }) {
      place.textContent = `${target ?? ""} ${digits(outputs.value.data[0], 3)}`;
    },
  };
}

export const view = {
  order: 10,
  title: "value",
  half: true,
  words: WORDS,
  fits: ({ facts }) => facts.task === "regression",
  create,
};
