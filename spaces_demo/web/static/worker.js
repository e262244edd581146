// The worker of the page: loads the model, and answers one question at a time.
//
//   to it     {ask: question, id}, {stop: id}
//   from it   {loaded: bytes}, {ready: {samplingRate, maxSeconds, markers}}, {event, id}, {done: {seconds}, id},
//             {failed: sentence, id}

import * as ort from "./vendor/ort.wasm.min.mjs";
import { Tokenizer } from "./vendor/tokenizers.min.mjs";
import { Talker } from "./talker.js";

const COMPRESSED = /\.(wasm|onnx|data)$|tokenizer\.json$/;
const WARM_UP = "What is one plus one?"; // browsers compile WebAssembly for speed while it runs
const MOST_THREADS = 4; // more do not make a small model faster
let talker = null;
let stopped = null; // the last question that is not to be answered any more

// Reads a file of the site whole; large ones are compressed there.
async function read(name) {
  const isCompressed = COMPRESSED.test(name);
  const response = await fetch(isCompressed ? `${name}.gz` : name);
  if (!response.ok) throw new Error(`The file ${name} of this page is missing: write the page again.`);
  const counted = response.body.pipeThrough(
    new TransformStream({
      transform(bytes, controller) {
        postMessage({ loaded: bytes.length });
        controller.enqueue(bytes);
      },
    }),
  );
  const bytes = new Uint8Array(await new Response(counted).arrayBuffer());
  if (!isCompressed || bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes; // some servers decompress a file themselves
  const whole = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(whole).arrayBuffer());
}

async function load() {
  const numThreads = Math.min(MOST_THREADS, Math.floor(navigator.hardwareConcurrency / 2)); // the page needs some, too
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.max(1, numThreads) : 1;
  ort.env.wasm.wasmPaths = { mjs: new URL("./vendor/ort-wasm-simd-threaded.mjs", import.meta.url).href };
  ort.env.wasm.wasmBinary = await read("vendor/ort-wasm-simd-threaded.wasm");
  talker = await Talker.load({ ort, Tokenizer, read: (name) => read(`model/${name}`) });
  for await (const _ of talker.reply({ text: WARM_UP }));
  const { codec, markers } = talker.settings;
  postMessage({ ready: { samplingRate: codec.samplingRate, maxSeconds: talker.maxSeconds, markers } });
}

// Lets messages in, which wait while a graph runs.
const pause = () =>
  new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = resolve;
    port2.postMessage(null);
  });

async function answer(question, id) {
  const begun = performance.now();
  for await (const event of talker.reply(question)) {
    postMessage({ event, id });
    await pause();
    if (stopped === id) break;
  }
  postMessage({ done: { seconds: (performance.now() - begun) / 1000 }, id });
}

let last = load().catch((error) => postMessage({ failed: `The model cannot be loaded: ${error.message}` }));
self.onmessage = ({ data: { ask, stop, id } }) => {
  if (stop !== undefined) stopped = stop;
  else last = last.then(() => answer(ask, id)).catch((error) => postMessage({ failed: error.message, id }));
};
