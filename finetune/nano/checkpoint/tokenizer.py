"""Nano's tokenizer, from the domain's texts and the markers."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from finetune.nano.domain.questions import text_corpus
from processing_ttt.tasks_ttt import TASKS
from processing_ttt.vocabulary_ttt import add_ttt_tokens

TEXT_VOCAB_SIZE = 1024


def train_tokenizer(codebook_size: int) -> PreTrainedTokenizerFast:
    """
    Train nano's byte-level BPE on the domain's training sentences and the tasks' prompts, and add the markers and the
    audio alphabet.

    Args:
        codebook_size (`int`): Codes of the codec.

    Returns:
        `PreTrainedTokenizerFast`: Any text can be written with it; words of the domain are mostly one token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    corpus = text_corpus() + [f"system\n{task.system_prompt}\nuser\nassistant\n" for task in TASKS.values()] * 500
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=TEXT_VOCAB_SIZE, initial_alphabet=alphabet, min_frequency=2)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=2048, padding_side="left")
    add_ttt_tokens(fast, codebook_size)
    return fast
