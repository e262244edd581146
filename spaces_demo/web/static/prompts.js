// Text and codes to the token ids of a prompt, and token ids to text: what `TttProcessor` does in Python.

import { spokenQuestion } from "./spoken.js";

export class Prompts {
  // `Tokenizer` is that of @huggingface/tokenizers, `files` {tokenizer, config} the two JSON files of a checkpoint.
  // `settings` has {prompts, markers, spokenInput}: see `spaces_demo/web/site.py`.
  constructor(Tokenizer, files, settings) {
    this.settings = settings;
    this.tokenizer = new Tokenizer(files.tokenizer, files.config);
    this.plain = new Tokenizer({ ...files.tokenizer, added_tokens: [] }, { ...files.config, added_tokens_decoder: {} });
    const controls = files.tokenizer.added_tokens.map(({ content }) => content).sort((a, b) => b.length - a.length);
    const escaped = controls.map((content) => content.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
    this.controls = new RegExp(`(${escaped.join("|")})`);
  }

  // The token ids of a text question. Control tokens in it are plain text: they end no turn and contain no audio.
  ofText(task, text) {
    const [before, after] = this.settings.prompts[task];
    if (this.settings.spokenInput && task === "chat") text = spokenQuestion(text);
    const pieces = text.split(this.controls); // text, control token, text, ...
    pieces[0] = before + pieces[0];
    pieces[pieces.length - 1] += after;
    return pieces.flatMap((piece, i) => encode(i % 2 ? this.plain : this.tokenizer, piece));
  }

  // The token ids of a question in codes.
  ofAudio(task, codes) {
    const [before, after] = this.settings.prompts[task];
    const { beginIds, endUserAudioId, codeOffset } = this.settings.markers;
    const audio = Array.from(codes, (code) => codeOffset + Number(code));
    return [...encode(this.tokenizer, before), beginIds[0], ...audio, endUserAudioId, ...encode(this.tokenizer, after)];
  }

  text(ids) {
    if (!ids.length) return "";
    return this.tokenizer.decode(ids, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  }
}

const encode = (tokenizer, text) => (text ? tokenizer.encode(text, { add_special_tokens: false }).ids : []);
