// Answers questions with talker.js on onnxruntime-web: `node talk.mjs NODE_MODULES MODEL`, where MODEL is the folder of a
// page. Reads [{task, text | waveform, options}] from standard input; writes a line {promptIds, ids, text, samples} for each.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";
import { Talker } from "../../../spaces_demo/web/static/talker.js";

const [packages, model] = process.argv.slice(2);
const load = (file) => import(pathToFileURL(`${packages}/${file}`).href);
const ort = await load("onnxruntime-web/dist/ort.node.min.mjs");
const { Tokenizer } = await load("@huggingface/tokenizers/dist/tokenizers.mjs");
ort.env.wasm.numThreads = 1;
const read = async (name) => {
  try {
    return new Uint8Array(gunzipSync(readFileSync(`${model}/${name}.gz`)));
  } catch {
    return new Uint8Array(readFileSync(`${model}/${name}`));
  }
};
const talker = await Talker.load({ ort, Tokenizer, read });
const shipped = talker.settings.options;
for (const { options, onlyPrompt, ...question } of JSON.parse(readFileSync(0, "utf-8"))) {
  talker.settings.options = { ...shipped, ...options };
  if (question.waveform) question.waveform = Float32Array.from(question.waveform);
  const reply = { promptIds: await talker.promptIds(question), ids: [], text: "", samples: [] };
  if (!onlyPrompt)
    for await (const { ids = [], text = "", samples = [] } of talker.reply(question)) {
      reply.ids.push(...ids);
      reply.text += text;
      reply.samples.push(...samples);
    }
  console.log(JSON.stringify(reply));
}
