"""
Begin with other codes where a language model left off: the embedding of a code becomes the mean of those that stood in
its place, and so do the weights that predict it.

    python -m finetune.nano.checkpoint.recode --model runs/nano --codec runs/voice/export \\
        --before prepared/nano/codes --after prepared/new/codes --heard questions dictation natural \\
        --said answers phrases --out runs/new-start

`--before` and `--after` are folders of codes by `checkpoint.prepare`, of the same corpora in the same rooms and noises,
by the codec as it was and as it is. Embeddings follow what users say (`--heard`) and what nano says (`--said`), the
predicting weights what nano says alone; codes that stay the same keep theirs. Without this, a language model reads the
new codes as the old ones until it has learnt them anew.

Depends on prepared codes and the model's embeddings. Independent of codecs and audio.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import AutoProcessor

from finetune.nano.codec.encode import read_codes
from modeling_ttt import TttForConditionalGeneration

from .make_checkpoint import make_processor
from .prepare import AGAIN


def replacements(before: Path, after: Path, codebook_size: int) -> torch.Tensor:
    """
    Count which code stood in the place of which.

    Args:
        before (`Path`): Codes of a corpus, as they were.
        after (`Path`): As they are; utterances that only one has, or that differ in length, do not count.
        codebook_size (`int`): Codes there are.

    Returns:
        `torch.FloatTensor` of shape `(codebook_size, codebook_size)`: Rows are codes as they are, columns as they were.
    """
    known = {line["id"]: line["codes"] for line in read_codes(after)}
    pairs = [
        (torch.tensor(known[line["id"]]), torch.tensor(line["codes"]))
        for line in read_codes(before)
        if len(known.get(line["id"], ())) == len(line["codes"])
    ]
    counts = torch.zeros(codebook_size, codebook_size)
    for places in pairs:
        counts.index_put_(places, torch.ones(len(places[0])), accumulate=True)
    return counts


def mean_rows(rows: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """
    Means of embeddings.

    Args:
        rows (`torch.FloatTensor` of shape `(codes, width)`): Embeddings of the codes as they were.
        counts (`torch.FloatTensor` of shape `(codes, codes)`): From [`replacements`].

    Returns:
        `torch.FloatTensor` of the shape of `rows`: A code that never occurred keeps its own.
    """
    total = counts.sum(1, keepdim=True)
    return torch.where(total > 0, counts @ rows / total.clamp(min=1), rows)


def folders(root: Path, corpora: Sequence[str]) -> Iterator[str]:
    """Names of the folders of codes of some corpora, in all their variations."""
    for corpus in corpora:
        yield from sorted(path.name for path in root.iterdir() if path.name.partition(AGAIN)[0] == corpus)


def recode(
    model: Path, codec: Path, before: Path, after: Path, heard: Sequence[str], said: Sequence[str], out: Path
) -> None:
    """Write the checkpoint to go on from; arguments as on the command line, see the module's docstring."""
    trained = TttForConditionalGeneration.from_pretrained(model)
    size, first = trained.config.audio_codebook_size, trained.config.audio_code_offset
    heard_counts, said_counts = (
        sum(
            (replacements(before / name, after / name, size) for name in folders(before, corpora)),
            start=torch.zeros(size, size),
        )
        for corpora in (heard, said)
    )
    if not heard_counts.any():
        raise SystemExit(f"{before} and {after} have no utterance of {', '.join(heard)} in common: prepare both first.")
    for module, counts in (
        (trained.get_input_embeddings(), heard_counts + said_counts),
        (trained.get_output_embeddings(), said_counts),
    ):
        rows = module.weight.data[first : first + size]
        rows.copy_(mean_rows(rows.float(), counts))
    trained.save_pretrained(out)
    make_processor(AutoProcessor.from_pretrained(model).tokenizer, codec).save_pretrained(out)


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint to go on from")
    parser.add_argument("--codec", type=Path, required=True, help="codec whose codes it shall read")
    parser.add_argument("--before", type=Path, required=True, help="codes that it was trained on")
    parser.add_argument("--after", type=Path, required=True, help="codes of the same by --codec")
    parser.add_argument("--heard", nargs="+", required=True, help="corpora of users' speech")
    parser.add_argument("--said", nargs="*", default=[], help="corpora of its own speech")
    parser.add_argument("--out", type=Path, required=True)
    recode(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
