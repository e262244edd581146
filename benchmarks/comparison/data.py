"""
The benchmark's data: a corner of nano's world, synthesised once, encoded by the shipped codec, written as examples of
three tasks.

The corner is sums up to ten and ten, the neighbours of these numbers, and the days of the week: 58 words in one
voice. Held out is what `finetune.nano.domain.questions` holds out, facts, sentences and templates; but it holds out
sentences of closed kinds only, and its held-out templates are the longest, so a fixed twelfth of all other questions
is not trained on either. Tests are spoken at paces that no training question has.

Replies are laid out as in the paper, with its proportions at this codec's 25 codes a second: `TEXT_TOKENS` ids of
text, then a span of `AUDIO_TOKENS` codes of fixed length, and so on, and after the last text a span of free length
with all that is left, a fifth of the audio on average. Nano's own layout, a span for each word filled to whole
blocks, is easier to learn, but the three strategies mean little there: a span that is filled shows its end by content
already (SST). Here a reply has two to five spans (PPM), the audio lags a little behind its text (BANOM), and the last
span must be seen to end (SST), in the data's own ids: nothing is filled, so every system learns from the same ones.

Depends on corpora, codes, texts and ids. Independent of models.
"""

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from finetune.nano.checkpoint.tokenizer import train_tokenizer
from finetune.nano.codec.encode import encode_corpus, read_codes
from finetune.nano.domain.questions import Item, items
from finetune.nano.speech.corpora import FLITE_STRETCH, FLITE_VOICE
from finetune.nano.speech.jobs import QUESTION_STRETCHES, TEST_STRETCHES, Job, share_of
from finetune.nano.speech.synthesise import write_shards
from finetune.training.collate import Example
from processing_ttt.codec_ttt import TttCodecModel
from processing_ttt.layout_ttt import TttLayout
from processing_ttt.processing_ttt import TttProcessor
from processing_ttt.vocabulary_ttt import TttVocabulary

KINDS = ("sum", "number", "day")
KIND_SHARES = {"sum": 0.5, "number": 0.2, "day": 0.3}  # of the spoken questions
LARGEST_NUMBER = 10
TRAIN_QUESTIONS = 3000  # spoken, distinct in text and pace; what is held out here as a sentence is then left aside
TEST_QUESTIONS = 120  # held-out questions of facts that were trained on, for asr and qa
TEST_SENTENCES = 60  # held-out sentences to read aloud: answers of unseen facts first, then questions
TEMPLATE_SHARE = 1 / 3  # of the test questions have a template that training lacks
SENTENCE_SHARE = 1 / 12  # of the questions are held out as sentences; their facts and templates are trained on
TEXT_TOKENS = 2  # with three, the audio lags further behind its text, and 0.8M ids taught no intelligible word
AUDIO_TOKENS = 15  # and an end marker: a block of 16 is a span
CORPORA = ("questions", "aloud", "test-questions", "test-aloud")


@dataclass
class Benchmark:
    """
    Everything that the systems share.

    Args:
        processor (`TttProcessor`): Tokenizer and codec.
        layout (`TttLayout`): Of replies.
        examples (`dict[str, list[dict]]`): Training examples of the tasks `asr`, `tts` and `chat`.
        questions (`list[dict]`): Test questions: `text`, `codes`, `answer`, `answer_codes` (how many), `kind`, `split`.
        sentences (`list[dict]`): Test sentences: `text`, and `codes` of the synthesiser's own speech.
    """

    processor: TttProcessor
    layout: TttLayout
    examples: dict[str, list[Example]]
    questions: list[dict] = field(default_factory=list)
    sentences: list[dict] = field(default_factory=list)


def benchmark_items() -> list[Item]:
    """
    All questions of the benchmark's corner of the domain; some more than the domain itself holds out are of the split
    `unseen_sentence`.
    """
    return [replace(item, split="unseen_sentence") if _is_held_out(item) else item for item in _corner()]


def held_out_questions() -> set[str]:
    """Texts of the questions that nothing is trained on, of any split."""
    return {item.question for item in benchmark_items() if item.split != "train"}


def _corner() -> list[Item]:
    return [item for item in items(largest_number=LARGEST_NUMBER) if item.kind in KINDS]


def _spoken_in_training() -> list[Item]:
    """
    The domain's own training split: its speech is made whole, and what is held out here is left aside when it is read.
    """
    return [item for item in _corner() if item.split == "train"]


def _is_held_out(item: Item) -> bool:
    return item.split == "train" and share_of(item.question) < SENTENCE_SHARE


def question_jobs(count: int = TRAIN_QUESTIONS, seed: int = 0) -> list[Job]:
    """
    Questions to be spoken, kinds in their shares, every text as often as any other of its kind.

    Args:
        count (`int`): How many.
        seed (`int`, *optional*, defaults to 0): Of the choice.

    Returns:
        `list[Job]`: Distinct in text and pace.
    """
    rng = random.Random(seed)
    waiting: dict[str, list[Job]] = {}
    for kind in KINDS:
        train = [item for item in _spoken_in_training() if item.kind == kind]
        waiting[kind] = [
            _spoken(i, s) for s in rng.sample(QUESTION_STRETCHES, 5) for i in rng.sample(train, len(train))
        ]
    jobs: list[Job] = []
    while len(jobs) < count and any(waiting.values()):
        left = [kind for kind in KINDS if waiting[kind]]
        jobs.append(waiting[rng.choices(left, [KIND_SHARES[kind] for kind in left])[0]].pop(0))
    return jobs


def aloud_jobs() -> list[Job]:
    """
    Every training answer and every training question once, in the voice that answers: what is read aloud, and the
    answers' audio.
    """
    train = _spoken_in_training()
    answers = {item.answer: item for item in train}
    questions = {item.question: item for item in train}
    jobs = [_read(text, item, "answer") for text, item in answers.items()]
    jobs += [_read(text, item, "question") for text, item in questions.items()]
    return random.Random(0).sample(jobs, len(jobs))


def test_question_jobs(count: int = TEST_QUESTIONS, seed: int = 2) -> list[Job]:
    """
    Held-out questions of facts that were trained on: sentences, and some templates; kinds equally often, as far as
    there are enough.
    """
    rng = random.Random(seed)
    of_templates = round(count * TEMPLATE_SHARE)
    chosen: list[Item] = []
    for split, wanted in (("unseen_template", of_templates), ("unseen_sentence", count)):
        held_out = [item for item in benchmark_items() if item.split == split]
        by_kind = [
            rng.sample(found, len(found)) for kind in KINDS if (found := [i for i in held_out if i.kind == kind])
        ]
        while len(chosen) < wanted and any(by_kind):
            chosen += [found.pop() for found in by_kind if found]
        chosen = chosen[:wanted]
    return [_spoken(item, rng.choice(TEST_STRETCHES)) for item in chosen]


def test_aloud_jobs(count: int = TEST_SENTENCES, seed: int = 3) -> list[Job]:
    """Sentences that training never reads: the answers of unseen facts, then held-out questions."""
    rng = random.Random(seed)
    held_out = [item for item in benchmark_items() if item.split != "train"]
    known = {job.text for job in aloud_jobs()}
    answers = {item.answer: item for item in held_out if item.answer not in known}
    questions = {item.question: item for item in held_out if item.question not in known}
    some = rng.sample(sorted(questions), max(0, count - len(answers)))
    return [_read(text, (answers | questions)[text], "test") for text in [*sorted(answers), *some]][:count]


def _spoken(item: Item, stretch: float) -> Job:
    return Job(item.question, FLITE_VOICE, stretch, item.split, {"kind": item.kind, "answer": item.answer})


def _read(text: str, item: Item, role: str) -> Job:
    return Job(text, FLITE_VOICE, FLITE_STRETCH, item.split, {"kind": item.kind, "role": role})


def make_speech(work: Path) -> None:
    """
    Synthesise all corpora below `work/speech`; what is there already stays.

    Args:
        work (`Path`): The folder of the comparison.
    """
    jobs = (question_jobs(), aloud_jobs(), test_question_jobs(), test_aloud_jobs())
    for corpus, listed in zip(CORPORA, jobs, strict=True):
        write_shards(listed, work / "speech" / corpus)


def encode_speech(work: Path, codec: Path) -> None:
    """
    Encode all corpora below `work/codes`; what is there already stays. Training questions are encoded at varied level
    and noise.

    Args:
        work (`Path`): The folder of the comparison, with its speech.
        codec (`Path`): The codec's folder.
    """
    model = TttCodecModel.from_pretrained(codec).eval()
    for corpus in CORPORA:
        encode_corpus(model, work / "speech" / corpus, work / "codes" / corpus, varied=corpus == "questions")


def load_benchmark(work: Path, codec: Path) -> Benchmark:
    """
    Read the codes and write the examples.

    Args:
        work (`Path`): The folder of the comparison, with its codes.
        codec (`Path`): The codec's folder.

    Returns:
        `Benchmark`: The same one every time.
    """
    tokenizer = train_tokenizer(TttCodecModel.config_class.from_pretrained(codec).codebook_size)
    layout = TttLayout(TttVocabulary.from_tokenizer(tokenizer), TEXT_TOKENS, AUDIO_TOKENS)
    questions, aloud, test_questions, test_aloud = (read_codes(work / "codes" / corpus) for corpus in CORPORA)
    spoken = {line["text"]: line["codes"] for line in aloud}
    held_out = held_out_questions()
    questions, aloud = ([line for line in lines if line["text"] not in held_out] for lines in (questions, aloud))

    def build(task: str, **parts: Any) -> Example:
        built = layout.build_example(tokenizer, task, **parts)
        return {"input_ids": built["input_ids"], "labels": built["labels"]}

    examples = {
        "asr": [build("asr", codes=q["codes"], reply_text=q["text"]) for q in questions],
        "tts": [build("tts", text=a["text"], reply_text=a["text"], reply_codes=a["codes"]) for a in aloud],
        "chat": [
            build("chat", codes=q["codes"], reply_text=q["answer"], reply_codes=spoken[q["answer"]]) for q in questions
        ],
    }
    test_questions = [q | {"answer_codes": len(spoken[q["answer"]])} for q in test_questions]
    processor = TttProcessor(tokenizer=tokenizer, codec_name_or_path=str(codec))
    return Benchmark(processor, layout, examples, test_questions, test_aloud)
