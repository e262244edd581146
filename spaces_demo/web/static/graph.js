// The language model's graph, as `ttt export` writes it, on any ONNX Runtime: the forward passes of decoder.js.
//
//   input_ids, attention_mask (4-D), position_ids, past_keys.0, ... ─► logits, present_keys.0, ...

export class Graph {
  // `ort` is onnxruntime-web, `session` the open graph, `shape` {numLayers, heads, size} of keys and values.
  constructor(ort, session, shape) {
    const layers = [...Array(shape.numLayers).keys()];
    Object.assign(this, { ort, session, shape });
    this.states = layers.flatMap((layer) => [`keys.${layer}`, `values.${layer}`]);
  }

  emptyPast() {
    const dims = [1, this.shape.heads, 0, this.shape.size];
    return this.states.map(() => new this.ort.Tensor("float32", new Float32Array(0), dims));
  }

  // Computes the logits of a query {ids, cachedLength, mask}; `rows(i)` are those of its position i.
  async forward({ ids, cachedLength, mask }, past) {
    const { Tensor } = this.ort;
    const length = ids.length;
    const positions = BigInt64Array.from(ids, (_, i) => BigInt(cachedLength + i));
    const feeds = {
      input_ids: new Tensor("int64", BigInt64Array.from(ids, BigInt), [1, length]),
      attention_mask: new Tensor("bool", mask, [1, 1, length, cachedLength + length]),
      position_ids: new Tensor("int64", positions, [1, length]),
    };
    this.states.forEach((name, i) => (feeds[`past_${name}`] = past[i]));
    const outputs = await this.session.run(feeds);
    const { data, dims } = outputs.logits;
    return {
      rows: (i) => data.subarray(i * dims[2], (i + 1) * dims[2]),
      present: this.states.map((name) => outputs[`present_${name}`]),
    };
  }

  // Keeps the first `count` of `numQueries` new positions. Most denoising steps keep none: `past` is taken again.
  keep(past, present, numCached, count, numQueries) {
    if (count === 0) return past;
    return count === numQueries ? present : present.map((state) => this.cut(state, numCached + count));
  }

  cut({ data, dims: [batch, heads, length, size] }, kept) {
    const values = new Float32Array(heads * kept * size);
    for (let head = 0; head < heads; head++) {
      const from = head * length * size;
      values.set(data.subarray(from, from + kept * size), head * kept * size);
    }
    return new this.ort.Tensor("float32", values, [batch, heads, kept, size]);
  }
}
