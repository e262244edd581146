// The token ids of a reply to text and audio, as they arrive: what `processing_ttt/reply_stream_ttt.py` does in Python.

const REPLACEMENT = "\ufffd"; // a tokenizer's text for bytes that are no character, or an incomplete one

// Token ids to text, in complete characters.
class TextStream {
  constructor(decode) {
    Object.assign(this, { decode, decoded: [], pending: [] });
  }

  push(ids) {
    this.pending.push(...ids);
    const text = this.rest();
    if (!text || text.endsWith(REPLACEMENT)) return ""; // perhaps the first bytes of a character
    [this.decoded, this.pending] = [this.pending, []];
    return text;
  }

  // What did not become a character.
  rest() {
    return this.pending.length
      ? this.decode([...this.decoded, ...this.pending]).slice(this.decode(this.decoded).length)
      : "";
  }
}

// Codes to samples, by windows: the samples of a code depend on `context` codes before it and `lookahead` after it.
//
//   codes   | dropped | context, done | final now | look-ahead |  not there yet
//                     └────────────── decoded ─────────────┘
class CodecStream {
  constructor(decode, { context, lookahead, samplesPerCode }) {
    Object.assign(this, { decode, context, lookahead, samplesPerCode, codes: [], numDone: 0 });
  }

  async push(codes) {
    this.codes.push(...codes);
    return this.decodeUntil(this.codes.length - this.lookahead);
  }

  async finish() {
    return this.decodeUntil(this.codes.length);
  }

  async decodeUntil(end) {
    const start = this.numDone;
    if (end <= start) return new Float32Array(0);
    const samples = await this.decode(this.codes);
    const dropped = Math.max(0, end - this.context);
    this.codes.splice(0, dropped);
    this.numDone = end - dropped;
    return samples.slice(start * this.samplesPerCode, end * this.samplesPerCode);
  }
}

// Decodes one reply: `push` and `finish` give the events {text} and {samples} that became final.
export class ReplyDecoder {
  constructor(markers, codec, decodeText, decodeCodes) {
    Object.assign(this, { markers, text: new TextStream(decodeText), audio: new CodecStream(decodeCodes, codec) });
  }

  async push(ids) {
    const { codeOffset, codebookSize, audioStartId, controlIds } = this.markers;
    const text = this.text.push(ids.filter((id) => id < audioStartId && !controlIds.includes(id)));
    const codes = ids.map((id) => id - codeOffset).filter((code) => code >= 0 && code < codebookSize);
    return events(text, codes.length ? await this.audio.push(codes) : []);
  }

  async finish() {
    return events(this.text.rest(), await this.audio.finish());
  }
}

const events = (text, samples) => [...(text ? [{ text }] : []), ...(samples.length ? [{ samples }] : [])];
