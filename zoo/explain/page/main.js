// From the data of a page to its sections. A section is a file in views/ or inputs/ that exports
// `view` or `input`; what it looks like stands in README.md beside this file.

import { make, speaker } from "zoo/dom.js";
import { hasSimd, opened } from "zoo/engine.js";
import { inputs, views } from "zoo/sections.js";

const WORDS = {
  en: {
    loading: "The net is being loaded …",
    noSimd:
      "This browser has no WebAssembly SIMD, which the net needs to run here: take a browser of 2022 or later.",
    failed: "The net could not answer: {why}",
    language: "Language",
    theme: "Dark",
    about: "{net}, {parameters} parameters. It runs in this page; nothing is sent anywhere.",
  },
  ko: {
    loading: "신경망을 불러오는 중입니다 …",
    noSimd:
      "이 브라우저에는 신경망 실행에 필요한 WebAssembly SIMD가 없습니다. 2022년 이후의 브라우저를 사용하세요.",
    failed: "신경망이 답하지 못했습니다: {why}",
    language: "언어",
    theme: "어둡게",
    about:
      "{net}, 매개변수 {parameters}개. 이 페이지 안에서 실행되며, 아무것도 밖으로 보내지 않습니다.",
  },
};

const { data, ...files } = globalThis.ZOO;
const status = document.getElementById("status");
const root = document.documentElement;
let language = navigator.language?.startsWith("ko") ? "ko" : "en";
let run = null;
let made = []; // the sections as they stand in the page
let latest = null;

const sections = [...inputs, ...views].filter((section) => section.fits(data));
const dictionaries = [WORDS, ...sections.map((section) => section.words)];

/** Say something above the sections; nothing takes back what was said. */
function say(text, isBad = false) {
  status.textContent = text;
  status.classList.toggle("bad", isBad);
}

/** What sections are given: the data, words, and the net. */
const page = {
  data,
  say,
  t: (key, given) => speaker(dictionaries, language)(key, given),
  /** Ask the net without showing the answer. */
  run: (given) => run(given),
  /** Ask the net, and let all sections show its answer. */
  async ask(given, about) {
    if (!run) return;
    const began = performance.now();
    let outputs;
    try {
      outputs = await run(given);
    } catch (error) {
      say(page.t("failed", { why: error.message }), true);
      return;
    }
    say("");
    latest = { outputs, inputs: given, about, milliseconds: performance.now() - began };
    globalThis.ZOO.latest = latest; // for whoever looks into a page
    for (const section of made) section.show?.(latest);
    root.dataset.answers = Number(root.dataset.answers ?? 0) + 1;
  },
};

/** Make all sections afresh, in the language that is chosen. */
function build() {
  const place = document.getElementById("page");
  const { net, parameters } = data;
  root.lang = language;
  document.getElementById("about").textContent = page.t("about", { net, parameters });
  document.getElementById("settings").replaceChildren(...settings());
  made = sections.map((section) => section.create(page));
  place.replaceChildren(
    ...sections.map(({ title, half }, i) =>
      make(
        half ? "section.half" : "section",
        { id: title },
        make("h2", {}, page.t(title)),
        ...made[i].elements,
      ),
    ),
  );
  if (latest) for (const section of made) section.show?.(latest);
}

function settings() {
  const languages = Object.entries({ en: "English", ko: "한국어" }).map(([code, name]) =>
    make(
      "button",
      {
        lang: code,
        "aria-pressed": language === code,
        onclick: () => {
          language = code;
          build();
          document.querySelector(`#settings [lang=${code}]`).focus();
        },
      },
      name,
    ),
  );
  const dark = make(
    "button",
    {
      "aria-pressed": root.dataset.theme === "dark",
      onclick: () => {
        root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
        dark.setAttribute("aria-pressed", root.dataset.theme === "dark");
      },
    },
    page.t("theme"),
  );
  return [make("div.row", { role: "group", "aria-label": page.t("language") }, ...languages, dark)];
}

async function start() {
  root.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  build();
  if (!hasSimd()) {
    say(page.t("noSimd"), true);
    return;
  }
  say(page.t("loading"));
  try {
    run = await opened(files);
  } catch (error) {
    say(page.t("failed", { why: error.message }), true);
    return;
  }
  say("");
  root.dataset.ready = "true";
  for (const section of made) section.start?.();
}

start();
