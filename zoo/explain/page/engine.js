// The net itself, run by onnxruntime in WebAssembly.

import * as ort from "ort";

/** Return the bytes of a base64 text. */
export function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

async function unpacked(text) {
  const packed = new Blob([bytes(text)]).stream();
  const whole = packed.pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(whole).arrayBuffer());
}

/** Whether this browser has the instructions on several numbers at once that the runtime takes. */
export function hasSimd() {
  // A module of one function that makes a vector of a number.
  const module = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8];
  module.push(0, 65, 0, 253, 15, 253, 98, 11);
  return typeof WebAssembly === "object" && WebAssembly.validate(Uint8Array.from(module));
}

const ARRAYS = {
  uint8: Uint8Array,
  int64: BigInt64Array,
  float32: Float32Array,
  float64: Float64Array,
};

/** Return an input: its type, its numbers and its shape. */
export function tensor(type, values, dims) {
  const numbers = type === "int64" ? Array.from(values, BigInt) : values;
  return new ort.Tensor(type, ARRAYS[type].from(numbers), dims);
}

/**
 * Return a function that asks the net: inputs by their names to outputs by theirs.
 * @param {{model: string, wasm: string, glue: string}} files In base64; `wasm` packed by gzip.
 */
export async function opened({ model, wasm, glue }) {
  ort.env.wasm.numThreads = 1; // more take headers that a file from a disk does not have
  ort.env.wasm.wasmBinary = await unpacked(wasm);
  const script = new Blob([bytes(glue)], { type: "text/javascript" });
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(script) };
  const session = await ort.InferenceSession.create(bytes(model), { executionProviders: ["wasm"] });
  let last = Promise.resolve();
  return (inputs) => {
    // One after the other: a session does not take two at once.
    last = last.catch(() => {}).then(() => session.run(inputs));
    return last;
  };
}
