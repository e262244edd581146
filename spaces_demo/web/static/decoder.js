// The decoding loop: text token by token, audio block by block, over an exact cache. It follows
// `modeling_ttt/decoding_ttt.py` for one sequence and greedy choices, and gives its token ids.
//
//   1 lay out   the positions that are not cached: in text the last token id, in a span the span and its block
//   2 forward   logits of these positions
//   3 keep      in the cache what is final of them
//   4 text      the next token id; a begin marker opens a span with a block of masks
//   5 denoise   reveal some masks of the block; when none is left, cut it after its end marker
//
// Independent of ONNX Runtime: `model.forward(query, past)` computes logits, keys and values.

import { denoise, revealSchedule } from "./denoising.js";

// The token ids of one sequence, and which of them are final:
//
//   | prompt and reply, final ........................ | block being denoised |
//   0            cachedLength               finalLength                 ids.length
//
// In an open span `cachedLength` stays at `spanStart`, because the blocks of a span see each other.
class Sequence {
  constructor(promptIds, markers, options) {
    Object.assign(this, { markers, options, ids: [...promptIds], promptLength: promptIds.length });
    Object.assign(this, { cachedLength: 0, finalLength: promptIds.length, spanStart: null, numBlocks: 0 });
    this.isFinished = false;
  }

  get room() {
    return this.options.maxNewTokens - (this.finalLength - this.promptLength);
  }

  get block() {
    return this.ids.slice(this.finalLength);
  }

  // How many of the next forward's first positions get final keys and values.
  get numCacheable() {
    return (this.spanStart ?? this.finalLength) - this.cachedLength;
  }

  appendText(tokenId) {
    this.ids.push(tokenId);
    this.finalLength += 1;
    if (this.markers.beginIds.includes(tokenId)) this.spanStart = this.finalLength;
    this.checkEnd();
    this.openBlock();
  }

  openBlock() {
    if (this.isFinished || this.spanStart === null) return;
    const { blockLength, firstBlockLength, denoisingSteps } = this.options;
    const wanted = this.numBlocks ? blockLength : firstBlockLength ?? blockLength;
    const length = Math.min(wanted, this.room);
    for (let i = 0; i < length; i++) this.ids.push(this.markers.maskId);
    this.schedule = revealSchedule(length, denoisingSteps);
    this.numBlocks += 1;
  }

  // Masks that the next denoising step reveals by the schedule; in the last step all.
  takeCount() {
    const count = this.schedule.shift();
    return this.schedule.length ? count : this.block.length;
  }

  // Makes the block final: cuts it after its first end marker, which closes the span. Returns the token ids kept.
  closeBlock() {
    const { block } = this;
    const end = block.findIndex((id) => this.markers.endIds.includes(id));
    const kept = end < 0 ? block : block.slice(0, end + 1);
    this.ids.length = this.finalLength += kept.length;
    if (end >= 0) this.spanStart = null;
    this.checkEnd();
    this.openBlock();
    return kept;
  }

  checkEnd() {
    this.isFinished = this.room <= 0 || this.markers.eosIds.includes(this.ids[this.finalLength - 1]);
  }
}

// Which query sees which key, 1 or 0, row by row: what comes before it, and its whole audio span.
export function attentionMask(ids, numCached, audioStartId) {
  const numKeys = numCached + ids.length;
  const mask = new Uint8Array(ids.length * numKeys);
  let end = 0; // of the span of the query
  for (let query = 0; query < ids.length; query++) {
    if (query >= end) {
      end = query + 1;
      if (ids[query] >= audioStartId) while (end < ids.length && ids[end] >= audioStartId) end += 1;
    }
    mask.fill(1, query * numKeys, query * numKeys + numCached + end);
  }
  return mask;
}

// Decodes one reply. Yields {ids} for each text token id and each finished block, and {block, isMasked, confidence}
// after each denoising step.
//
//   markers   {audioStartId, maskId, beginIds, endIds, eosIds, eligibleIds}
//   options   {maxNewTokens, blockLength, firstBlockLength, denoisingSteps, entropyBound, blockEarlyStop}
export async function* decode(model, promptIds, markers, options) {
  const sequence = new Sequence(promptIds, markers, options);
  let past = model.emptyPast();
  while (!sequence.isFinished) {
    const { cachedLength } = sequence;
    const ids = sequence.ids.slice(cachedLength);
    const mask = attentionMask(ids, cachedLength, markers.audioStartId);
    const { rows, present } = await model.forward({ ids, cachedLength, mask }, past);
    const { numCacheable } = sequence;
    past = model.keep(past, present, cachedLength, numCacheable, ids.length);
    sequence.cachedLength += numCacheable;
    if (sequence.spanStart === null) {
      const tokenId = bestOf(rows(ids.length - 1), markers.audioStartId);
      sequence.appendText(tokenId);
      yield { ids: [tokenId] };
      continue;
    }
    const { block } = sequence;
    const blockRows = block.map((_, i) => rows(ids.length - block.length + i));
    const step = denoise(blockRows, block, sequence.takeCount(), markers, options);
    sequence.ids.splice(sequence.finalLength, block.length, ...step.block);
    yield { ...step, isMasked: step.block.map((id) => id === markers.maskId) };
    if (step.isFinished) yield { ids: sequence.closeBlock() };
  }
}

function bestOf(row, length) {
  let best = 0;
  for (let id = 1; id < length; id++) if (row[id] > row[best]) best = id;
  return best;
}
