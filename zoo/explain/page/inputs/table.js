// Where rows come from: a field a column, begun with a row that came along, or with the means.

import { make } from "zoo/dom.js";
import { tensor } from "zoo/engine.js";

const WORDS = {
  en: {
    table: "Row",
    samples: "Rows that came with this page",
    unknown: "unknown",
    row: "Row {name}",
  },
  ko: { table: "행", samples: "이 페이지에 담긴 행", unknown: "알 수 없음", row: "행 {name}" },
};

/** Return the net's inputs for rows, each a mapping of columns to values. */
export function fed(rows, facts) {
  const { numbers, categories } = facts;
  const names = Object.keys(categories);
  const made = {};
  if (numbers.length) {
    const values = rows.flatMap((row) => numbers.map((name) => Number(row[name])));
    made.numbers = tensor("float64", values, [rows.length, numbers.length]);
  }
  if (names.length) {
    const codes = rows.flatMap((row) => names.map((name) => categories[name].indexOf(row[name])));
    made.categories = tensor("int64", codes, [rows.length, names.length]);
  }
  return made;
}

function create(page) {
  const { facts, samples, columns } = page.data;
  const { t } = page;
  const begin = samples[0]?.row ?? {
    ...Object.fromEntries(facts.numbers.map((name) => [name, columns[name].mean])),
    ...Object.fromEntries(Object.entries(facts.categories).map(([name, [first]]) => [name, first])),
  };
  let row = page.row ?? { ...begin };
  const fields = new Map();

  function ask() {
    page.row = row;
    return page.ask(fed([row], facts), { name: t("table"), row: { ...row } });
  }

  function change(name, value) {
    row = { ...row, [name]: value };
    ask();
  }

  for (const name of facts.numbers) {
    const step = columns[name].std / 20 || 1;
    const field = make("input", {
      type: "number",
      step: "any",
      value: row[name],
      oninput: () => {
        if (field.value !== "" && field.validity.valid) change(name, Number(field.value));
      },
      onkeydown: (event) => {
        const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
        if (!direction) return;
        event.preventDefault(); // by a twentieth of the column's deviation, not by 1
        field.value = Number((Number(field.value) + direction * step).toPrecision(6));
        change(name, Number(field.value));
      },
    });
    fields.set(name, field);
  }
  for (const [name, known] of Object.entries(facts.categories)) {
    const options = [...known, ""].map((each) =>
      make("option", { value: each, selected: each === (row[name] ?? "") }, each || t("unknown")),
    );
    const field = make("select", { onchange: () => change(name, field.value) }, ...options);
    fields.set(name, field);
  }
  const take = (sample) => {
    row = { ...sample.row };
    for (const [name, field] of fields) field.value = row[name] ?? "";
    ask();
  };
  const buttons = samples.map((sample) =>
    make("button", { onclick: () => take(sample) }, t("row", { name: sample.name })),
  );
  const labelled = Array.from(fields, ([name, field]) =>
    make("label.field", {}, make("span", {}, name), field),
  );
  const rows = buttons.length
    ? [make("p.soft", {}, t("samples")), make("div.row", {}, ...buttons)]
    : [];
  return { elements: [...rows, make("div.fields", {}, ...labelled)], start: ask };
}

export const input = {
  title: "table",
  half: true,
  words: WORDS,
  fits: ({ facts }) => facts.inputs === "table",
  create,
};
