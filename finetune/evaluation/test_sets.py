"""
Test sets by name: the paper's, from the Hub, and any prepared folder.

    librispeech-clean              a set of the table below; its audio is encoded with the model's codec as it is read
    prepared/italian               the test split of a folder that `ttt prepare` wrote
    prepared/italian:train         another split: what the model was trained on

Depends on the names and columns of the sets. Independent of models and metrics.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from finetune.data.encoding import require_codes_of
from finetune.data.schema import SPLITS, Record, load_prepared, make_record
from finetune.data.sources import load_from_hub
from processing_ttt import TttProcessor


@dataclass(frozen=True)
class HubSet:
    """
    A test set on the Hub.

    Args:
        repository (`str`): Its id.
        kind (`str`): `recording` (transcribe it, read it aloud) or `dialogue` (answer it).
        language (`str`): Tag.
        text (`str`): Column of the transcript, or of the question's words.
        answer (`str`, *optional*): Column of the accepted answer or answers; without it replies are not
            judged.
        config (`str`, *optional*): Configuration.
        split (`str`): Split.
        audio (`str`): Column of the audio.
    """

    repository: str
    kind: str
    language: str
    text: str
    answer: str | None = None
    config: str | None = None
    split: str = "test"
    audio: str = "audio"


# The sets of the paper's tables.
HUB_SETS = {
    "librispeech-clean": HubSet("openslr/librispeech_asr", "recording", "en", "text", config="clean"),
    "librispeech-other": HubSet("openslr/librispeech_asr", "recording", "en", "text", config="other"),
    "fleurs-en": HubSet("google/fleurs", "recording", "en", "transcription", config="en_us"),
    "fleurs-zh": HubSet("google/fleurs", "recording", "zh", "transcription", config="cmn_hans_cn"),
    "aishell-1": HubSet("TwinkStart/AISHELL-1", "recording", "zh", "text"),
    "wenetspeech-meeting": HubSet("TwinkStart/WenetSpeech", "recording", "zh", "text", split="test_meeting"),
    "wenetspeech-net": HubSet("TwinkStart/WenetSpeech", "recording", "zh", "text", split="test_net"),
    "llama-questions": HubSet("TwinkStart/llama-questions", "dialogue", "en", "Questions", "Answer"),
    "triviaqa": HubSet("TwinkStart/speech-triavia-qa", "dialogue", "en", "question", "answer"),
    "webquestions": HubSet("TwinkStart/speech-web-questions", "dialogue", "en", "question", "answers"),
    "alpacaeval": HubSet("hlt-lab/voicebench", "dialogue", "en", "prompt", config="alpacaeval"),
}
ELSEWHERE = {
    "aishell-2": (
        "AISHELL-2 is given out by its makers and not on the Hub: `ttt prepare` it from a manifest, and name that "
        "folder."
    ),
}


@dataclass(frozen=True)
class TestSet:
    """
    The questions to models.

    Args:
        name (`str`): As given.
        records (`list[Record]`): Recordings or dialogues.
        accepted (`list[list[str]]`): Right answers of each record; none where nothing is to be judged.
    """

    name: str
    records: list[Record]
    accepted: list[list[str]]

    __test__ = False  # no test of ours, whatever pytest thinks of the name


def load_test_set(name: str, processor: TttProcessor, limit: int | None = None, model: str = "MODEL") -> TestSet:
    """
    Find a test set.

    Args:
        name (`str`): See the module's docstring.
        processor ([`TttProcessor`]): Encodes the audio of sets from the Hub.
        limit (`int`, *optional*): At most so many records, spread over the set (of a set from the Hub: the first).
        model (`str`, *optional*, defaults to `"MODEL"`): The processor's model, for the error.

    Returns:
        [`TestSet`]

    Raises:
        ValueError: If nothing goes by this name, or the folder has codes of another codec than the processor's.
        ConnectionError: If the set is on the Hub and the Hub cannot be reached.
    """
    if name in HUB_SETS:
        return _from_hub(name, HUB_SETS[name], processor, limit)
    if name in ELSEWHERE:
        raise ValueError(ELSEWHERE[name])
    folder, colon, split = name.rpartition(":")
    if not colon or split not in SPLITS:
        folder, split = name, "test"
    if not Path(folder).is_dir():
        raise ValueError(f"{name!r} is neither a prepared folder nor one of the sets {', '.join(HUB_SETS)}.")
    require_codes_of(processor, [Path(folder)], model)
    dataset = load_prepared(folder)[split]
    if not len(dataset):
        raise ValueError(
            f"The split {split!r} of {folder!r} is empty: choose another one with {folder}:train, or prepare more data."
        )
    wanted = len(dataset) if limit is None else min(limit, len(dataset))
    records: list[Record] = [dataset[index * len(dataset) // wanted] for index in range(wanted)]
    return TestSet(name, records, [[record["answer_text"]] if record["answer_text"] else [] for record in records])


def _from_hub(name: str, described: HubSet, processor: TttProcessor, limit: int | None) -> TestSet:
    try:
        stream = load_from_hub(described.repository, described.config, split=described.split, streaming=True)
        stream = stream.cast_column(described.audio, datasets.Audio(decode=False))
        found = list(_records(name, described, stream, processor, limit))
    except (ConnectionError, OSError) as error:
        raise ConnectionError(
            f"The test set {name!r} is on the Hub ({described.repository}), which cannot be reached: {error}. "
            "Evaluate on a prepared folder, or where there is a network."
        ) from error
    return TestSet(name, [record for record, _ in found], [accepted for _, accepted in found])


def _records(
    name: str, described: HubSet, stream: Any, processor: TttProcessor, limit: int | None
) -> Iterator[tuple[Record, list[str]]]:
    """Make records of a stream of examples, with the right answers."""
    for index, example in enumerate(stream):
        if limit is not None and index >= limit:
            break
        missing = {column for column in (described.text, described.answer, described.audio) if column} - set(example)
        if missing:
            raise ValueError(
                f"{described.repository} has no column {', '.join(sorted(missing))} any more, only "
                f"{', '.join(example)}: mend {name!r} in finetune/evaluation/test_sets.py."
            )
        audio = example[described.audio]
        codes = processor.encode_audio(audio["bytes"] or audio["path"])
        seconds = len(codes) / processor.codec_config.frame_rate
        record = make_record(
            f"{name}-{index}",
            described.kind,
            language=described.language,
            text=example[described.text],
            codes=codes,
            seconds=seconds,
        )
        answers = example[described.answer] if described.answer else []
        yield record, [str(answer) for answer in (answers if isinstance(answers, list) else [answers])]
