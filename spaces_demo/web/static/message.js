// A question and its reply as they are shown: the text, and a row of squares for each audio span, one for each code. A
// square is faint while it is a mask; the more probable its code was when it was revealed, the stronger it is.

const element = (name, className, text = "") =>
  Object.assign(document.createElement(name), { className, textContent: text });

export class Message {
  constructor(chat, question) {
    this.text = element("p", "reply");
    this.spans = element("div", "spans");
    this.figures = element("p", "figures");
    this.block = null; // squares of the block that is being denoised
    chat.append(element("p", "question", question), this.text, this.spans, this.figures);
    this.text.scrollIntoView({ block: "nearest" });
  }

  // Takes an event of `Talker.reply`.
  show({ text, ids, block, isMasked, confidence }, markers) {
    if (text) this.text.textContent += text;
    if (block) this.draw(block.length, isMasked, confidence);
    if (!ids || ids[0] < markers.audioStartId) return;
    // The block is final: what follows its end marker was cut.
    for (const square of this.block.splice(ids.length)) square.remove();
    if (markers.endIds.includes(ids.at(-1))) {
      this.block.at(-1).className = "end";
      this.span = null;
    }
    this.block = null;
  }

  draw(length, isMasked, confidence) {
    this.span ??= this.spans.appendChild(element("span", "span"));
    this.block ??= Array.from({ length }, () => this.span.appendChild(element("i", "mask")));
    this.block.forEach((square, i) => {
      if (isMasked[i] || square.className === "code") return;
      square.className = "code";
      square.style.opacity = (0.35 + 0.65 * confidence[i]).toFixed(2);
    });
  }

  fail(sentence) {
    this.text.textContent = sentence;
    this.text.className = "failure";
  }
}
