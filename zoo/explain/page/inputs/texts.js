// Where texts come from: what is typed, or one that came with the page.

import { make } from "zoo/dom.js";
import { tensor } from "zoo/engine.js";
import { Tokenizer } from "zoo/tokenizer.js";

const WORDS = {
  en: {
    texts: "Text",
    typed: "Type a text",
    prompt: "Type how a text begins",
    samples: "Texts that came with this page",
    cut: "The net reads {most} tokens; of these {count} only {which} are taken.",
    head: "the first",
    tail: "the last",
    both: "those at both ends",
    unknownTokenizer: "This page cannot split texts as the net's tokenizer does ({why}).",
    start: "I saw this film yesterday",
  },
  ko: {
    texts: "글",
    typed: "글을 입력하세요",
    prompt: "글의 시작을 입력하세요",
    samples: "이 페이지에 담긴 글",
    cut: "신경망은 토큰 {most}개까지 읽습니다. {count}개 중 {which}만 사용합니다.",
    head: "앞부분",
    tail: "뒷부분",
    both: "양 끝",
    unknownTokenizer: "이 페이지는 이 신경망의 토크나이저와 똑같이 글을 나눌 수 없습니다 ({why}).",
    start: "어제 이 영화를 봤다",
  },
};

const PAUSE = 200; // milliseconds without a key before the net is asked

/** Keep as many tokens as the net reads: the head, the tail, or half of both. */
export function shortened(ids, most, which) {
  if (!most || ids.length <= most) return ids;
  if (which === "tail") return ids.slice(-most);
  if (which === "both") {
    const head = Math.ceil(most / 2);
    return [...ids.slice(0, head), ...ids.slice(ids.length - (most - head))];
  }
  return ids.slice(0, most);
}

/** Return the net's inputs for tokens; a language model begins without a memory. */
export function fed(ids, facts) {
  const tokens = tensor("int64", ids, [1, ids.length]);
  if (facts.inputs === "texts") return { tokens, lengths: tensor("int64", [ids.length], [1]) };
  const state = Object.entries(facts.state).map(([name, axes]) => {
    const dims = axes.map((axis) => ({ batch: 1, past: 0 })[axis] ?? axis);
    const count = dims.reduce((a, b) => a * b, 1);
    return [name, tensor("float32", new Float32Array(count), dims)];
  });
  return { tokens, ...Object.fromEntries(state) };
}

function create(page) {
  const { facts, samples, tokenizer: spec, unknown } = page.data;
  const { t } = page;
  const writes = facts.inputs === "tokens";
  const note = make("p.soft", { "aria-live": "polite" });
  let tokenizer = null;
  try {
    tokenizer = new Tokenizer(JSON.parse(spec), unknown);
  } catch (error) {
    return { elements: [make("p", {}, t("unknownTokenizer", { why: error.message }))] };
  }
  page.tokenizer = tokenizer;
  const which = writes ? "tail" : facts.truncate;
  page.encode = (text) => shortened(tokenizer.encode(text), facts.max_length, which);

  function ask(text) {
    const all = tokenizer.encode(text);
    const ids = page.encode(text);
    note.textContent =
      all.length > ids.length
        ? t("cut", { most: facts.max_length, count: all.length, which: t(which) })
        : "";
    page.text = text;
    return page.ask(fed(ids, facts), { name: text, text, ids });
  }

  let waits = 0;
  const box = make(
    "textarea",
    {
      rows: 3,
      "aria-label": t(writes ? "prompt" : "typed"),
      oninput: () => {
        clearTimeout(waits);
        waits = setTimeout(() => ask(box.value), PAUSE);
      },
    },
    page.text ?? samples[0]?.text ?? t("start"),
  );
  /** Put a text into the box and ask the net about it. */
  page.write = (text) => {
    box.value = text;
    return ask(text);
  };
  const chosen = samples.map(({ name, text }) =>
    make("button", { onclick: () => page.write(text) }, name),
  );
  const rows = chosen.length
    ? [make("details", {}, make("summary", {}, t("samples")), make("div.row", {}, ...chosen))]
    : [];
  return { elements: [box, note, ...rows], start: () => ask(box.value) };
}

export const input = {
  title: "texts",
  half: true,
  words: WORDS,
  fits: ({ facts }) => ["texts", "tokens"].includes(facts.inputs),
  create,
};
