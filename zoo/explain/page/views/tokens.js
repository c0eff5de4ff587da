// The text as the net gets it: tokens, and their numbers in the vocabulary.

import { make } from "zoo/dom.js";

const WORDS = {
  en: {
    tokens: "Tokens",
    count: "{count} tokens; the number below each is its place in the vocabulary.",
  },
  ko: { tokens: "토큰", count: "토큰 {count}개. 아래 숫자는 어휘 안에서의 번호입니다." },
};

function create(page) {
  const place = make("div");
  return {
    elements: [place],
    show({ about }) {
      const items = about.ids.map((id) =>
        make(
          "li.token",
          {},
          make("span.piece", {}, page.tokenizer.show(id)),
          make("span.soft", {}, String(id)),
        ),
      );
      place.replaceChildren(
        make("ol.tokens", { tabindex: 0, "aria-label": page.t("tokens") }, ...items),
        make("p.soft", {}, page.t("count", { count: about.ids.length })),
      );
    },
  };
}

export const view = {
  order: 20,
  title: "tokens",
  words: WORDS,
  fits: ({ facts }) => ["texts", "tokens"].includes(facts.inputs),
  create,
};
