// A question to a reply, as events: the graphs of an export, its tokenizer and its settings put together.
//
// Independent of pages and workers: the ONNX Runtime, the tokenizer's class and the reading of files are given.

import { decode } from "./decoder.js";
import { Graph } from "./graph.js";
import { Prompts } from "./prompts.js";
import { ReplyDecoder } from "./reply.js";

export class Talker {
  // `ort` is onnxruntime-web, `Tokenizer` that of @huggingface/tokenizers, and `read(name)` gives the bytes of a file
  // of the site's `model` folder.
  static async load({ ort, Tokenizer, read }) {
    const json = async (name) => JSON.parse(new TextDecoder().decode(await read(name)));
    const open = async (name, options = {}) =>
      ort.InferenceSession.create(await read(name), { executionProviders: ["wasm"], ...options });
    const talker = new Talker();
    const settings = await json("settings.json");
    const files = { tokenizer: await json("tokenizer.json"), config: await json("tokenizer_config.json") };
    const weights = { path: "model.onnx.data", data: await read("onnx/model.onnx.data") };
    const session = await open("onnx/model.onnx", { externalData: [weights] });
    return Object.assign(talker, {
      ort,
      settings,
      prompts: new Prompts(Tokenizer, files, settings),
      graph: new Graph(ort, session, settings.shape),
      encoder: await open("onnx/codec_encoder.onnx"),
      decoder: await open("onnx/codec_decoder.onnx"),
    });
  }

  // The most seconds of a spoken question: what the codec encodes at once.
  get maxSeconds() {
    const { maxCodes, samplesPerCode, samplingRate } = this.settings.codec;
    return (maxCodes * samplesPerCode) / samplingRate;
  }

  // Answers a text, or a waveform (Float32Array, mono, at `settings.codec.samplingRate`). Yields {promptIds},
  // {ids} that are final, {block, isMasked, confidence} after each denoising step, {text} and {samples}.
  async *reply(question) {
    const { markers, options, codec } = this.settings;
    const promptIds = await this.promptIds(question);
    if (promptIds.length + options.maxNewTokens > this.settings.maxLength)
      throw new Error("This question is too long for the model: ask a shorter one.");
    yield { promptIds };
    const reply = new ReplyDecoder(markers, codec, (ids) => this.prompts.text(ids), (codes) => this.decode(codes));
    for await (const event of decode(this.graph, promptIds, markers, options)) {
      yield event;
      if (event.ids) yield* await reply.push(event.ids);
    }
    yield* await reply.finish();
  }

  async promptIds({ task = "chat", text, waveform }) {
    if (!waveform) return this.prompts.ofText(task, text);
    return this.prompts.ofAudio(task, await this.encode(waveform));
  }

  async encode(waveform) {
    const { samplesPerCode, maxCodes } = this.settings.codec;
    const numCodes = Math.min(Math.ceil(waveform.length / samplesPerCode), maxCodes);
    const padded = new Float32Array(numCodes * samplesPerCode);
    padded.set(waveform.subarray(0, padded.length));
    const { codes } = await this.encoder.run({ waveform: new this.ort.Tensor("float32", padded, [1, padded.length]) });
    return codes.data;
  }

  async decode(codes) {
    const feeds = { codes: new this.ort.Tensor("int64", BigInt64Array.from(codes, BigInt), [1, codes.length]) };
    return (await this.decoder.run(feeds)).waveform.data;
  }
}
