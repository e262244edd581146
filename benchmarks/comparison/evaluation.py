"""
Measuring one trained system on the held-out tests: its texts, a judge's transcripts of its audio, and the cost of a
reply.

- asr: held-out questions, at paces that training never had, written down: word error rate.
- qa: the same questions answered: is the answer's text exactly right, are all numbers and content words of the right
  answer transcribed and no others, and how much longer is the answer's audio than the right one's?
- tts: unseen sentences read aloud: word error rate and keywords, transcribed by pocketsphinx with a bigram of nano's
  whole domain. A system writes the sentence that it reads, and may miswrite it; so once more with its text given
  (`given_text.py`), where only its speech is judged. `nar` has no order in which text could be given.
- cost: forward passes of a spoken answer (mean over the qa replies), and wall and CPU seconds for one answer at a
  time (median), codec not included.

Every system decodes greedily, and diffused audio by the paper's rule with more steps for its masks: the most confident
`CODES_PER_STEP` first. Some are measured again in other ways (`OTHER_DECODINGS`): a causal model that always takes the
best code may fall into a loop, so `ar` draws its ids from ten best ones and 95 % (the paper's rule for text); the
most confident first favours frequent codes, so `ttt` reveals one code at a time, calibrated by how frequent it is; and
in blocks of 8, for comparison with `ttt-block-8`. `ttt-two-stream` is decoded in fewer steps, and under the entropy
bound that nano is shipped with.

Depends on models, the processor and the judge. Changes nothing.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from finetune.nano.domain.questions import keywords, text_corpus
from finetune.nano.measure.judge import Judge, score
from processing_ttt import TttReply

from .data import Benchmark
from .given_text import GivenText
from .nar import decode_nar
from .systems import BLOCK_LENGTH, System

BATCH_SIZE = 30
CODES_PER_STEP = 2
MAX_NEW_TOKENS = 128  # the longest right reply of the tests has about 105
TIMED_REPLIES = 8
OTHER_DECODINGS: dict[str, dict[str, dict[str, Any]]] = {  # system -> name in its results -> options of `generate`
    "ar": {"sampled": {"do_sample": True, "top_k": 10, "top_p": 0.95}},
    "ttt": {
        "calibrated": {"denoising_steps": BLOCK_LENGTH, "remasking": "calibrated"},
        "blocks_of_8": {"block_length": 8, "denoising_steps": 8 // CODES_PER_STEP},
    },
    "ttt-two-stream": {
        "entropy_bound": {"denoising_steps": BLOCK_LENGTH, "entropy_bound": 3.0},
        "four_steps": {"denoising_steps": 4},
        "two_steps": {"denoising_steps": 2},
        "one_step": {"denoising_steps": 1},
    },
}

Replies = tuple[list[list[int]], list[int]]  # ids of each reply, forwards of each row


def decode(
    system: System,
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    pad_token_id: int,
    decoding: dict[str, Any] | None = None,
    given: GivenText | None = None,
) -> Replies:
    """
    Decode a batch by the system's own procedure.

    Args:
        system (`System`): Which one.
        model (`PreTrainedModel`): Its model, in eval mode.
        prompts (`Sequence[list[int]]`): Ids of the prompts.
        pad_token_id (`int`): Fills shorter prompts on their left.
        decoding (`dict`, *optional*): Other options of `generate` than the system's own.
        given ([`GivenText`], *optional*): The text that each reply must have; not for `"nar"`.

    Returns:
        `tuple`: The replies' ids, and how many forward passes each took, the prompt's included.
    """
    device = next(model.parameters()).device
    reversed_prompts = [torch.tensor(prompt[::-1]) for prompt in prompts]
    ids = pad_sequence(reversed_prompts, batch_first=True, padding_value=pad_token_id).flip(-1).to(device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    mask = (torch.arange(ids.shape[1], device=device) >= ids.shape[1] - lengths[:, None]).long()
    steps = system.block_length // CODES_PER_STEP
    if system.family == "nar":
        output = decode_nar(model, ids, mask, MAX_NEW_TOKENS, system.block_length, steps)
        return output.replies, output.num_forwards
    options: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": MAX_NEW_TOKENS, "do_sample": False}
    if system.family == "ar":
        options |= {"pad_token_id": pad_token_id} | (decoding or {})
        if given is not None:
            options["logits_processor"] = [given.logits_processor(ids)]
        found = model.generate(ids, **options)[:, ids.shape[1] :].tolist()
        replies = [_up_to(row, model.config.eos_token_id) for row in found]
        return replies, [len(reply) for reply in replies]
    options |= {"block_length": system.block_length, "denoising_steps": steps, "block_early_stop": True} | (
        decoding or {}
    )
    options |= {name: tensor.to(device) for name, tensor in given.inputs().items()} if given is not None else {}
    output = model.generate(ids, return_dict_in_generate=True, **options)
    counts = output.attention_mask[:, ids.shape[1] :].sum(-1)
    replies = [row[:count] for row, count in zip(output.sequences[:, ids.shape[1] :].tolist(), counts, strict=True)]
    return replies, [round(float(count / rate)) for count, rate in zip(counts, output.tokens_per_forward, strict=True)]


def _up_to(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids


class Measurement:
    """
    Asks one system all tests.

    Args:
        benchmark (`Benchmark`): The tests.
        system (`System`): Which one.
        model (`PreTrainedModel`): Trained, in eval mode.
        decoding (`dict`, *optional*): See `decode`.
        limit (`int`, *optional*): Use so many items of each test only.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        system: System,
        model: PreTrainedModel,
        decoding: dict[str, Any] | None = None,
        limit: int | None = None,
    ):
        self.processor, self.layout = benchmark.processor, benchmark.layout
        self.questions, self.sentences = benchmark.questions[:limit], benchmark.sentences[:limit]
        self.system, self.model, self.decoding = system, model, decoding
        self.pad_token_id = self.layout.vocabulary.pad_token_id

    def run(self) -> dict[str, Any]:
        """Measure everything; gives numbers by name."""
        judge = Judge(text_corpus())
        build, tokenizer = self.layout.build_prompt, self.processor.tokenizer
        asked = [build(tokenizer, "chat", codes=q["codes"]) for q in self.questions]
        dictated = [build(tokenizer, "asr", codes=q["codes"]) for q in self.questions]
        read = [build(tokenizer, "tts", s["text"]) for s in self.sentences]

        written, _ = self._replies(dictated)
        answers, forwards = self._replies(asked)
        spoken, _ = self._replies(read)
        right = [q["answer"] for q in self.questions]
        is_right = [reply.text.strip() == answer for reply, answer in zip(answers, right, strict=True)]
        too_long = [reply.seconds - self._seconds_of(q) for reply, q in zip(answers, self.questions, strict=True)]
        transcripts = [_transcribe(judge, reply) for reply in answers]
        texts = [s["text"] for s in self.sentences]
        aloud = score(texts, [_transcribe(judge, reply) for reply in spoken])
        return {
            "asr_wer": score([q["text"] for q in self.questions], [reply.text for reply in written]).wer,
            "qa_exact": statistics.mean(is_right),
            "qa_exact_by_split": _means([q["split"] for q in self.questions], is_right),
            "qa_speech": statistics.mean(
                keywords(h) == keywords(answer) for h, answer in zip(transcripts, right, strict=True)
            ),
            "seconds_too_long": statistics.mean(too_long),
            "tts_wer": aloud.wer,
            "tts_keywords": aloud.keywords,
            **self._reading_given_text(judge, read, texts),
            "finished": statistics.mean(reply.finished for reply in (*written, *answers, *spoken)),
            "forwards": statistics.mean(forwards),
            **self._seconds(asked[:TIMED_REPLIES]),
            "examples": [reply.text for reply in (*written[:2], *answers[:2], *spoken[:2])],
            "counts": {"questions": len(right), "sentences": len(texts)},
        }

    def _reading_given_text(self, judge: Judge, prompts: list[list[int]], texts: list[str]) -> dict[str, float]:
        """Read the sentences aloud as they are written, where the system can."""
        if self.system.family == "nar":
            return {}
        ids = [self.processor.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        spoken, forwards = self._replies(prompts, ids)
        aloud = score(texts, [_transcribe(judge, reply) for reply in spoken])
        names = ("given_text_wer", "given_text_keywords", "given_text_forwards")
        return dict(zip(names, (aloud.wer, aloud.keywords, statistics.mean(forwards)), strict=True))

    def _replies(
        self, prompts: list[list[int]], texts: list[list[int]] | None = None
    ) -> tuple[list[TttReply], list[int]]:
        """
        Decode prompts in batches of similar length, with these ids as their texts if there are some; gives them in
        their own order.
        """
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        found: dict[int, tuple[list[int], int]] = {}
        torch.manual_seed(0)  # of the ids that are drawn
        for start in range(0, len(order), BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            batch = [prompts[i] for i in chosen]
            given = None if texts is None else GivenText([texts[i] for i in chosen], self.layout.vocabulary)
            replies, forwards = decode(self.system, self.model, batch, self.pad_token_id, self.decoding, given)
            found |= dict(zip(chosen, zip(replies, forwards, strict=True), strict=True))
        decoded = [self.processor.decode_reply(found[i][0]) for i in range(len(prompts))]
        return decoded, [found[i][1] for i in range(len(prompts))]

    def _seconds_of(self, question: dict[str, Any]) -> float:
        """Length of the right answer's audio."""
        return question["answer_codes"] / self.processor.codec_config.frame_rate

    def _seconds(self, prompts: list[list[int]]) -> dict[str, float]:
        """
        Median wall and CPU time of one reply at a time: on a machine that others use too, the second is the one to
        trust.
        """
        wall, cpu = [], []
        for prompt in prompts:
            began, cpu_began = time.perf_counter(), time.process_time()
            decode(self.system, self.model, [prompt], self.pad_token_id, self.decoding)
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - cpu_began)
        return {"seconds": statistics.median(wall), "cpu_seconds": statistics.median(cpu)}


def _transcribe(judge: Judge, reply: TttReply) -> str:
    """A reply without audio has an empty transcript: a judge would find a word even in silence."""
    return judge.transcribe(reply.audio) if len(reply.audio) else ""


def _means(groups: list[str], values: list[bool]) -> dict[str, float]:
    pairs = list(zip(groups, values, strict=True))
    return {group: statistics.mean(value for other, value in pairs if other == group) for group in sorted(set(groups))}


def codec_floor(benchmark: Benchmark) -> dict[str, Any]:
    """
    Measure the test sentences as the codec gives back the synthesiser's own speech, below which no system can be
    expected; and each sentence against the audio of another one, which is what the judge makes of speech that has
    nothing to do with the text.

    Args:
        benchmark (`Benchmark`): The tests.

    Returns:
        `dict`: `tts_wer` and `tts_keywords`, and these of other sentences in `unrelated`.
    """
    judge = Judge(text_corpus())
    transcripts = [judge.transcribe(benchmark.processor.decode_codes(s["codes"])) for s in benchmark.sentences]
    texts = [s["text"] for s in benchmark.sentences]
    floor, unrelated = score(texts, transcripts), score(texts, transcripts[1:] + transcripts[:1])
    return {
        "tts_wer": floor.wer,
        "tts_keywords": floor.keywords,
        "unrelated": {"tts_wer": unrelated.wer, "tts_keywords": unrelated.keywords},
    }
