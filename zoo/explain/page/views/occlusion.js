// What the answer becomes without each word (occlusion; Zeiler & Fergus, arXiv 1311.2901, for images).

import { digits, make } from "zoo/dom.js";
import { fed } from "zoo/inputs/texts.js";

const WORDS = {
  en: {
    occlusion: "Word by word",
    run: "Leave out each word",
    change:
      "Probability of “{name}” with the word, less that without it. Red: the word speaks for it; blue: against.",
    waits: "{done} of {count} words",
    word: "{word}: {change}",
    most: "Only the first {count} words are tried.",
  },
  ko: {
    occlusion: "단어별 영향",
    run: "단어를 하나씩 빼 보기",
    change:
      "단어가 있을 때의 “{name}” 확률에서 없을 때의 확률을 뺀 값입니다. 빨강은 찬성, 파랑은 반대하는 단어입니다.",
    waits: "{count}개 중 {done}개",
    word: "{word}: {change}",
    most: "처음 {count}개 단어만 시도합니다.",
  },
};

const MOST = 200;

function create(page) {
  const { facts } = page.data;
  const { t } = page;
  const place = make("div", { "aria-live": "polite" });
  let latest = null;
  let turn = 0;

  async function tryAll() {
    const mine = ++turn;
    const { text } = latest.about;
    const given = latest.outputs.probabilities.data;
    const label = given.indexOf(Math.max(...given));
    const words = Array.from(text.matchAll(/\S+/g)).slice(0, MOST);
    const changes = [];
    for (const found of words) {
      const rest = text.slice(0, found.index) + text.slice(found.index + found[0].length);
      const { probabilities } = await page.run(fed(page.encode(rest), facts));
      if (mine !== turn) return; // another text came meanwhile
      changes.push(given[label] - probabilities.data[label]);
      place.textContent = t("waits", { done: changes.length, count: words.length });
    }
    const reach = Math.max(...changes.map(Math.abs), 1e-6);
    const marked = words.map(([word], i) => {
      const share = changes[i] / reach;
      const change = `${changes[i] < 0 ? "−" : "+"}${digits(Math.abs(changes[i]), 4)}`;
      const piece = make("span.piece", {}, word);
      const strength = Math.round(70 * Math.abs(share));
      piece.style.background = `color-mix(in srgb, ${share > 0 ? "#e07a5f" : "#5b9bd5"} ${strength}%, transparent)`;
      return make("li.token", {}, piece, make("span.soft", {}, change));
    });
    place.replaceChildren(
      make("ol.tokens", { tabindex: 0, "aria-label": t("occlusion") }, ...marked),
      make("p.soft", {}, t("change", { name: facts.class_names[label] })),
      words.length === MOST ? make("p.soft", {}, t("most", { count: MOST })) : "",
    );
  }

  const button = make("button", { onclick: () => latest && tryAll() }, t("run"));
  return {
    elements: [button, place],
    show(result) {
      latest = result;
      turn++;
      place.replaceChildren();
    },
  };
}

export const view = {
  order: 30,
  title: "occlusion",
  words: WORDS,
  fits: ({ facts }) => facts.inputs === "texts",
  create,
};
