// A denoising step: which codes to propose, and which positions of a block to reveal. Pure functions of logits, in the
// words of `samplers_ttt.py` and `denoising_rules_ttt.py`, whose greedy rule by confidence this is.

// Spreads the masks of a block over its denoising steps: how many positions each step reveals, at least one each.
export function revealSchedule(numMasks, numSteps) {
  numSteps = Math.min(numSteps, numMasks);
  const share = Math.floor(numMasks / numSteps);
  return Array.from({ length: numSteps }, (_, step) => share + (step < numMasks % numSteps ? 1 : 0));
}

// The most probable of the eligible token ids by one row of logits: {tokenId, confidence, entropy}, entropy in nats.
function propose(logits, eligibleIds) {
  let best = eligibleIds[0];
  for (const id of eligibleIds) if (logits[id] > logits[best]) best = id;
  let sum = 0;
  for (const id of eligibleIds) sum += Math.exp(logits[id] - logits[best]);
  let entropy = 0;
  for (const id of eligibleIds) {
    const logProb = logits[id] - logits[best] - Math.log(sum);
    entropy -= Math.exp(logProb) * logProb;
  }
  return { tokenId: best, confidence: 1 / sum, entropy };
}

// The positions to reveal while the sum of their entropies minus the largest stays within `bound` nats.
function withinBound(order, proposals, bound) {
  let sum = 0, largest = 0, count = 0;
  for (const position of order) {
    sum += proposals[position].entropy;
    largest = Math.max(largest, proposals[position].entropy);
    if (sum - largest > bound) break;
    count += 1;
  }
  return order.slice(0, count);
}

// Whether there is no mask before the first end marker: what follows it is cut.
function isSettled(block, markers) {
  const end = block.findIndex((id) => markers.endIds.includes(id));
  return !(end < 0 ? block : block.slice(0, end)).includes(markers.maskId);
}

// Reveals some masks of a block.
//
// `rows` has the logits of each position over the whole vocabulary. `count` is how many positions the schedule reveals;
// the length of the block in the last step, which reveals all. Returns {block, confidence, isFinished}.
export function denoise(rows, block, count, markers, options) {
  const proposals = rows.map((row) => propose(row, markers.eligibleIds));
  const order = [...block.keys()].filter((position) => block[position] === markers.maskId);
  order.sort((a, b) => proposals[b].confidence - proposals[a].confidence); // stable: ties from left to right
  const isLastStep = count >= block.length;
  let revealed = order;
  if (!isLastStep)
    revealed =
      options.entropyBound === null
        ? order.slice(0, count)
        : withinBound(order, proposals, options.entropyBound);
  const after = [...block];
  for (const position of revealed) after[position] = proposals[position].tokenId;
  const isFinished = options.blockEarlyStop ? isSettled(after, markers) : !after.includes(markers.maskId);
  return { block: after, confidence: proposals.map((proposal) => proposal.confidence), isFinished };
}
