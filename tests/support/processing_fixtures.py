"""A tiny byte-level tokenizer, built here so that no test needs a download."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "What is seven plus five?",
    "Seven plus five is twelve.",
    "Answer the user in text and speech.",
    "Hello there, Grüße 你好",
]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 300 pieces with neither chat markers nor special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
