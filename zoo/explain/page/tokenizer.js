// Text to tokens and back, as the `tokenizers` library does it for what the zoo trains: byte-level
// pairs (GPT-2's), bytes, words and characters. A tokenizer.json that asks for more is refused by
// the name of what is not known here, as another split would give other answers in silence.

// Unicode's classes stand for \s and \w, which mean less in JavaScript than in that library.
const SPACE = "\\p{White_Space}";
const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
const WORDS = new RegExp(`[${WORD}]+|[^${WORD}${SPACE}]+`, "gu");
const GPT2 = new RegExp(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+` +
    `|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`,
  "gu",
);

/** Return the characters that stand for the bytes 0 to 255 in byte-level vocabularies. */
function byteAlphabet() {
  const printable = (byte) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(printable(byte) ? byte : next++),
  );
}

const BYTES = byteAlphabet();
const BYTE_OF = new Map(BYTES.map((character, byte) => [character, byte]));
const UTF8 = new TextEncoder();

/** Return a function for each step that brings a text to a form of its own. */
function normalizers(spec) {
  if (!spec) return [];
  switch (spec.type) {
    case "Sequence":
      return spec.normalizers.flatMap(normalizers);
    case "NFC":
      return [(text) => text.normalize("NFC")];
    case "Lowercase":
      // Letter by letter: of a whole word JavaScript makes another sigma at the end.
      return [(text) => Array.from(text, (letter) => letter.toLowerCase()).join("")];
    default:
      throw new Error(`normalizer ${spec.type}`);
  }
}

/** Return a function that divides a text into what tokens do not go beyond. */
function splitter(spec) {
  switch (spec?.type) {
    case "Whitespace":
      return (text) => text.match(WORDS) ?? [];
    case "Split":
      if (spec.pattern.Regex !== "[\\s\\S]") break;
      return (text) => Array.from(text);
    case "ByteLevel":
      return (text) => {
        const spaced = spec.add_prefix_space && text && text[0] !== " " ? ` ${text}` : text;
        const parts = spec.use_regex ? (spaced.match(GPT2) ?? []) : spaced ? [spaced] : [];
        return parts.map((part) => Array.from(UTF8.encode(part), (byte) => BYTES[byte]).join(""));
      };
  }
  throw new Error(`splitting by ${spec?.type ?? "nothing"}`);
}

/** Return a function that makes tokens, as they stand in the vocabulary, of such a part. */
function pieces(model) {
  const vocab = new Map(Object.entries(model.vocab));
  if (model.type === "WordLevel") return (part) => [vocab.has(part) ? part : model.unk_token];
  const asksMore = ["dropout", "byte_fallback", "continuing_subword_prefix", "ignore_merges"];
  const more = [...asksMore, "end_of_word_suffix"].find((name) => model[name]);
  if (model.type !== "BPE" || more) throw new Error(`model ${more ?? model.type}`);
  const pair = (merge) => (Array.isArray(merge) ? merge.join(" ") : merge);
  const ranks = new Map(model.merges.map((merge, rank) => [pair(merge), rank]));
  const known = new Map();
  return (part) => {
    if (!known.has(part)) known.set(part, merged(part, ranks, vocab));
    return known.get(part);
  };
}

/** Merge the pair that was learnt first, until there is none (arXiv 1508.07909). */
function merged(part, ranks, vocab) {
  const tokens = Array.from(part).filter((character) => vocab.has(character));
  for (;;) {
    let best = Infinity;
    let place = -1;
    for (let i = 0; i + 1 < tokens.length; i++) {
      const rank = ranks.get(`${tokens[i]} ${tokens[i + 1]}`) ?? Infinity;
      if (rank < best) [best, place] = [rank, i];
    }
    if (place < 0) return tokens;
    tokens.splice(place, 2, tokens[place] + tokens[place + 1]);
  }
}

export class Tokenizer {
  /**
   * @param {object} spec What stands in a tokenizer.json.
   * @param {number} unknown The number of the token that stands for a text without any.
   * @throws {Error} If it asks for what is not known here.
   */
  constructor(spec, unknown) {
    if (spec.added_tokens?.some((token) => !token.special)) throw new Error("added tokens");
    this.unknown = unknown;
    this.steps = normalizers(spec.normalizer);
    this.split = splitter(spec.pre_tokenizer);
    this.pieces = pieces(spec.model);
    this.isBytes = spec.pre_tokenizer.type === "ByteLevel";
    this.isWords = spec.pre_tokenizer.type === "Whitespace";
    this.numbers = new Map(Object.entries(spec.model.vocab));
    for (const { content, id } of spec.added_tokens ?? []) this.numbers.set(content, id);
    this.special = new Set((spec.added_tokens ?? []).map(({ id }) => id));
    this.names = new Map(Array.from(this.numbers, ([name, id]) => [id, name]));
  }

  /** Return a text's tokens as numbers; at least one. */
  encode(text) {
    // Half a character cannot be written as UTF-8.
    const whole = text.replace(/\p{Surrogate}/gu, "?");
    const normal = this.steps.reduce((made, step) => step(made), whole);
    const ids = [];
    for (const part of this.split(normal)) {
      for (const token of this.pieces(part)) ids.push(this.numbers.get(token));
    }
    return ids.length ? ids : [this.unknown];
  }

  /** Return the text that tokens stand for, special ones left out. */
  decode(ids) {
    const names = ids.filter((id) => !this.special.has(id)).map((id) => this.names.get(id) ?? "");
    if (!this.isBytes) return names.join(this.isWords ? " " : "");
    const bytes = Array.from(names.join(""), (character) => BYTE_OF.get(character) ?? 0x3f);
    return new TextDecoder().decode(Uint8Array.from(bytes));
  }

  /** Return a token as a reader knows it: its text, or of part of a character its bytes. */
  show(id) {
    const name = this.names.get(id) ?? `#${id}`;
    if (!this.isBytes || this.special.has(id)) return name;
    const text = this.decode([id]);
    if (!text.includes("\ufffd")) return text;
    const bytes = Array.from(name, (character) => BYTE_OF.get(character) ?? 0);
    return bytes.map((byte) => `<${byte.toString(16).padStart(2, "0")}>`).join("");
  }
}
