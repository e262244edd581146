// Decodes with decoder.js over forwards that were recorded in Python: reads [{prompt, markers, options, forwards}] from
// standard input, where each forward has the query that is expected and the logits that answer it. Writes [{ids, blocks}].
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { decode } from "../../../spaces_demo/web/static/decoder.js";

class Recorded {
  constructor(forwards) {
    this.forwards = forwards;
  }
  emptyPast() {
    return 0; // its length
  }
  async forward({ ids, cachedLength, mask }, past) {
    const expected = this.forwards.shift();
    assert.deepStrictEqual({ ids, cachedLength, mask: [...mask] }, { ...expected.query });
    assert.equal(past, cachedLength);
    return { rows: (i) => expected.logits[i], present: null };
  }
  keep(past, present, numCached, count) {
    return numCached + count;
  }
}

const results = [];
for (const { prompt, markers, options, forwards } of JSON.parse(readFileSync(0, "utf-8"))) {
  const ids = [], blocks = [];
  for await (const event of decode(new Recorded(forwards), prompt, markers, options)) {
    if (event.ids) ids.push(...event.ids);
    else blocks.push([event.block, event.confidence]);
  }
  assert.equal(forwards.length, 0);
  results.push({ ids, blocks });
}
process.stdout.write(JSON.stringify(results));
