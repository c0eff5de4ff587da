// Elements made in one call, and words in the language that is chosen.

/**
 * Make an element.
 * @param {string} tag Its name, with classes after dots: "p.soft".
 * @param {object} [attributes] Attributes; functions under "onclick" and the like are listeners.
 * @param {...(Node|string|null)} children What is in it.
 */
export function make(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  element.classList.add(...classes);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (key.startsWith("aria-")) element.setAttribute(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Make a slider with its label and its value beside it. */
export function slider({ label, min, max, step, value, show = (x) => x, change }) {
  const output = make("output.number", {}, show(value));
  const input = make("input", {
    type: "range",
    min,
    max,
    step,
    value,
    oninput: () => {
      output.textContent = show(Number(input.value));
      change(Number(input.value));
    },
  });
  return make("label.row", {}, label, input, output);
}

/** Make a choice of several, whose change is told. */
export function choice({ label, options, value, change }) {
  const select = make(
    "select",
    { onchange: () => change(select.value) },
    ...options.map(([key, text]) => make("option", { value: key, selected: key === value }, text)),
  );
  return make("label.row", {}, label, select);
}

/** Return what gives the words of a language, {n} replaced by what is given. */
export function speaker(dictionaries, language) {
  return (key, given = {}) => {
    const found = dictionaries.map((words) => words[language]?.[key] ?? words.en?.[key]);
    const text = found.find((each) => each !== undefined) ?? key;
    return text.replace(/\{(\w+)\}/g, (whole, name) => given[name] ?? whole);
  };
}

/** Return a number in a few digits. */
export function digits(number, places = 3) {
  return Number(number).toFixed(places);
}
