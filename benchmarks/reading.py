"""
Does a checkpoint read exactly the text that it is given? Fifty sentences and a page, read aloud freely and word for
word.

    python benchmarks/reading.py --out benchmarks/results/reading.json      # ten minutes of one core

"freely" lets the model write the text of its reply, as `generate` alone does; "exactly" is `TttTalker.reply` with the
task `tts`. Reported: word error rate of the reply's text against the given one (its numbers in words), and word and
character error rates of transcripts by pocketsphinx with its general English model, in all and of the page alone.

Neither the sentences (`reading_sentences.txt`) nor the page (`reading_page.txt`) is training data.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jiwer
import torch

from finetune.evaluation.pocketsphinx import PocketsphinxJudge
from finetune.nano.domain.questions import normalise
from modeling_ttt import nano_checkpoint
from processing_ttt import TttReply, TttTalker
from processing_ttt.reading_ttt import split_sentences
from processing_ttt.spoken_text_ttt import spoken_text

HERE = Path(__file__).parent
BATCH_SIZE = 10


def sentences() -> list[str]:
    """Fifty sentences of everyday English, some with numbers and abbreviations."""
    return (HERE / "reading_sentences.txt").read_text(encoding="utf-8").splitlines()


def page() -> str:
    """A page of text."""
    return (HERE / "reading_page.txt").read_text(encoding="utf-8")


def read_freely(talker: TttTalker, texts: Sequence[str]) -> list[TttReply]:
    """Let the model write the text of its replies."""
    replies: list[TttReply] = []
    for start in range(0, len(texts), BATCH_SIZE):
        chosen = texts[start : start + BATCH_SIZE]
        replies += talker.reply_messages([talker.processor.messages("tts", text=spoken_text(text)) for text in chosen])
    return replies


def read_exactly(talker: TttTalker, texts: Sequence[str]) -> list[TttReply]:
    """Have the given texts read word for word."""
    return talker.reply_batch(text=list(texts), task="tts")


def measure(
    talker: TttTalker, read: Callable[[TttTalker, Sequence[str]], list[TttReply]], judge: PocketsphinxJudge
) -> dict[str, Any]:
    """Read the sentences and the page, and compare text and transcripts with what was given."""
    found = {}
    for name, texts in (("sentences", sentences()), ("page", split_sentences(page()))):
        replies = read(talker, texts)
        given = [normalise(spoken_text(text)) for text in texts]
        transcripts = judge.transcribe([reply.audio for reply in replies], replies[0].sampling_rate, "en")
        written = [normalise(reply.text) for reply in replies]
        found[name] = {
            "text WER": round(jiwer.wer(given, written), 4),
            "audio WER": round(jiwer.wer(given, [normalise(text) for text in transcripts]), 4),
            "audio CER": round(jiwer.cer(given, [normalise(text) for text in transcripts]), 4),
            "n": len(texts),
        }
    return found


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=nano_checkpoint())
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    talker = TttTalker.from_pretrained(options.model, device="cpu")
    judge = PocketsphinxJudge()
    result = {name: measure(talker, read, judge) for name, read in (("freely", read_freely), ("exactly", read_exactly))}
    print("| read | text WER | audio WER | audio CER |\n|---|---|---|---|")
    for name, found in result.items():
        for part, numbers in found.items():
            print(f"| {part}, {name} | {numbers['text WER']} | {numbers['audio WER']} | {numbers['audio CER']} |")
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
