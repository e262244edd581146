"""
Measure models: transcription, speech, answers, speed. Any checkpoints and adapters, on any test sets, in one table.

    ttt evaluate checkpoints/ttt-nano runs/italian --data prepared/italian --data prepared/italian:train \\
        --out measured/italian

- asr: recordings are transcribed. WER and CER, normalised and raw.
- tts: their texts are read aloud, and judges transcribe the speech. WER and CER for each judge; DNSMOS where it is
  installed.
- qa: questions are answered, spoken ones as audio. Share of right answers.
- speed: some of each, one at a time, codes to waveform: seconds per second of audio, the median.

Depends on the modules beside it, which ask models, compare texts and write tables.
"""

import gc
import json
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune.adapters.loading import load_model, load_processor, split_model_name
from finetune.data.schema import Record, tasks_of
from finetune.hardware import peak_memory
from finetune.progress import progress_bar
from finetune.runs import read_facts
from processing_ttt.device_ttt import choose_device
from processing_ttt.tasks_ttt import DEFAULT_LANGUAGE

from .answer_judges import AnswerJudge, make_answer_judge
from .batched_model import Answer, Checkpoint, Question
from .judges import JUDGE_RATE, Judge, ModelJudge, make_judge, mean_opinion
from .metrics import error_rates
from .results_table import write_report
from .test_sets import TestSet, load_test_set

TASKS = ("asr", "tts", "qa")
TIMED = 10  # questions of a task that are timed one by one


@dataclass(frozen=True)
class EvaluationOptions:
    """
    How to measure.

    Args:
        tasks (`tuple[str, ...]`): Of `TASKS`; those that a set has no records for are passed over.
        judges (`tuple[str, ...]`): Judges of speech, see `judges.py`.
        answer_judge (`str`): Judge of answers, see `answer_judges.py`.
        limit (`int`, *optional*): Records of each set.
        batch_size (`int`): Questions answered together.
        device (`str`, *optional*): Where models run; a GPU if there is one.
        dtype (`str`): Number format of the weights.
        default_language (`str`, *optional*): Prompts in this language carry no tag; by default as each run's recipe
            has it, or English.
        keep_audio (`int`): Spoken texts of each set that are written as audio files.
        generation (`dict`): Options for `generate`.
    """

    tasks: tuple[str, ...] = TASKS
    judges: tuple[str, ...] = ("model",)
    answer_judge: str = "exact"
    limit: int | None = None
    batch_size: int = 16
    device: str | None = None
    dtype: str = "auto"
    default_language: str | None = None
    keep_audio: int = 3
    generation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judges:
    """
    The judges of all models: made once, before anything is asked.

    Args:
        speech (`dict[str, Judge]`): Judges of speech by name, but for `model`, which is each model itself.
        answers (`AnswerJudge`, *optional*): Judge of answers.
    """

    speech: dict[str, Judge]
    answers: AnswerJudge | None


def make_judges(options: EvaluationOptions) -> Judges:
    """
    Make the judges that the tasks need.

    Args:
        options ([`EvaluationOptions`]): Names them.

    Returns:
        [`Judges`]

    Raises:
        ImportError: If one is not installed, or DNSMOS only in part.
        OSError: If there is no such model.
    """
    speech = [name for name in options.judges if name != "model"] if "tts" in options.tasks else []
    if "tts" in options.tasks:
        mean_opinion([], JUDGE_RATE)  # raises now if a module is missing
    return Judges(
        {name: make_judge(name) for name in speech},
        make_answer_judge(options.answer_judge) if "qa" in options.tasks else None,
    )


def evaluate(models: Sequence[str], sets: Sequence[str], out: Path, options: EvaluationOptions) -> list[dict[str, Any]]:
    """
    Measure every model on every set, and write `results.json`, `results.md` and plots.

    Args:
        models (`Sequence[str]`): Names as `loading.py` takes them; `label=name` gives one another name in the table.
        sets (`Sequence[str]`): Names as `test_sets.py` takes them.
        out (`Path`): Folder of the results.
        options ([`EvaluationOptions`]): How.

    Returns:
        `list[dict]`: One for each model, set and task.

    Raises:
        ValueError: If a task or a set is unknown, no set has records for the tasks, or a judge does not support
        the language of a set.
    """
    unknown = [task for task in options.tasks if task not in TASKS]
    if unknown:
        raise ValueError(f"There is no task {unknown[0]!r} to measure: choose of {', '.join(TASKS)}.")
    judges = make_judges(options)
    out.mkdir(parents=True, exist_ok=True)
    results = []
    labels = [named.partition("=")[0] for named in models]
    folders, set_folders = _folder_names(labels), _folder_names(sets)
    for label, named in zip(labels, models, strict=True):
        name = named.partition("=")[2] if "=" in named else label
        processor = load_processor(name)
        tests = [load_test_set(test, processor, options.limit, name) for test in sets]  # before any work: may be wrong
        for test in tests:
            _check_languages(judges, test)
        if not any(_measurable(test, options.tasks) for test in tests):
            raise ValueError(
                f"There is nothing to measure: {', '.join(sets)} has no records for {', '.join(options.tasks)}."
            )
        checkpoint = Checkpoint(
            load_model(name, options.dtype, choose_device(options.device)),
            processor,
            options.batch_size,
            options.default_language or _default_language(name),
            {"do_sample": False} | options.generation,
        )
        for test in tests:
            audio = out / "audio" / folders[label] / set_folders[test.name]
            for measured in measure(checkpoint, test, options, judges, audio):
                results.append({"model": label, "data": test.name} | measured)
                (out / "results.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
        del checkpoint
        gc.collect()
    write_report(results, out)
    return results


def _folder_names(names: Sequence[str]) -> dict[str, str]:
    """A folder for each name, whatever it is: no two the same, and none that leads elsewhere."""
    folders: dict[str, str] = {}
    for name in dict.fromkeys(names):
        plain = folder = re.sub(r"[^\w.-]+", "-", name)[-80:].strip(".-") or "unnamed"
        while folder in folders.values():
            folder = f"{plain}-{len(folders) + 1}"
        folders[name] = folder
    return folders


def _check_languages(judges: Judges, test: TestSet) -> None:
    """Refuse a judge before models are asked, not after."""
    recordings = _recordings(test)
    for name, judge in judges.speech.items():
        if recordings and not judge.supports(_language(recordings)):
            raise ValueError(
                f"The judge {name} does not support {_language(recordings)!r}, the language of {test.name!r}: choose "
                "another one with --judge."
            )


def measure(
    checkpoint: Checkpoint,
    test: TestSet,
    options: EvaluationOptions,
    judges: Judges,
    audio: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """
    Measure one model on one set.

    Args:
        checkpoint ([`Checkpoint`]): The model.
        test ([`TestSet`]): What it is asked.
        options ([`EvaluationOptions`]): How.
        judges ([`Judges`]): From `make_judges`.
        audio (`Path`, *optional*): Folder for some of its speech.

    Yields:
        `dict`: One for each task that the set has records for, as soon as it is measured.
    """
    recordings, dialogues = _recordings(test), _dialogues(test)
    if recordings and "asr" in options.tasks:
        yield _transcription(checkpoint, recordings)
    if recordings and "tts" in options.tasks:
        yield _speech(checkpoint, recordings, options, judges, audio)
    if dialogues and judges.answers is not None:
        yield _answers(checkpoint, dialogues, judges.answers)


def _recordings(test: TestSet) -> list[Record]:
    return [record for record in test.records if "asr" in tasks_of(record)]


def _dialogues(test: TestSet) -> list[tuple[Record, list[str]]]:
    """Questions with their right answers."""
    pairs = zip(test.records, test.accepted, strict=True)
    return [(record, right) for record, right in pairs if record["kind"] in ("dialogue", "text")]


def _measurable(test: TestSet, tasks: Sequence[str]) -> bool:
    return bool(("qa" in tasks and _dialogues(test)) or ({"asr", "tts"} & set(tasks) and _recordings(test)))


def _transcription(checkpoint: Checkpoint, records: Sequence[Record]) -> dict[str, Any]:
    questions = [Question("asr", codes=record["codes"], language=record["language"]) for record in records]
    answers = _ask(checkpoint, questions, "asr")
    rates = error_rates(_texts(records), [answer.text for answer in answers], _languages(records))
    lengths = [record["seconds"] for record in records[:TIMED]]
    factors = [
        seconds / length for (seconds, _), length in zip(_timed(checkpoint, questions), lengths, strict=True) if length
    ]
    return {"task": "asr", **rates.as_dict(), **_cost(factors), "finished": _finished(answers)}


def _speech(
    checkpoint: Checkpoint, records: Sequence[Record], options: EvaluationOptions, judges: Judges, folder: Path | None
) -> dict[str, Any]:
    """Let the model read texts aloud. The transcript of a reply without audio is empty, without asking a judge."""
    questions = [Question("tts", text=record["text"], language=record["language"]) for record in records]
    answers = _ask(checkpoint, questions, "tts")
    rate = checkpoint.processor.codec_config.output_sampling_rate
    spoken = [checkpoint.processor.decode_codes(answer.codes) for answer in answers]
    audible = [i for i, waveform in enumerate(spoken) if len(waveform)]
    texts = _texts(records)
    result: dict[str, Any] = {"task": "tts", "count": len(records), "silent": len(records) - len(audible)}
    for name in options.judges:
        judge = judges.speech[name] if name != "model" else ModelJudge(checkpoint)
        transcripts = judge.transcribe([spoken[i] for i in audible], rate, _language(records))
        written = dict(zip(audible, transcripts, strict=True))
        rates = error_rates(texts, [written.get(i, "") for i in range(len(records))], _languages(records))
        result |= {f"wer ({name})": rates.wer, f"cer ({name})": rates.cer}
    opinion = mean_opinion([spoken[i] for i in audible], rate)
    if opinion is not None:
        result["dnsmos"] = opinion
    if folder is not None:
        _keep(checkpoint, [spoken[i] for i in audible[: options.keep_audio]], folder)
    factors = [seconds / length for seconds, length in _timed(checkpoint, questions) if length]
    return {**result, **_cost(factors), "finished": _finished(answers)}


def _answers(
    checkpoint: Checkpoint, dialogues: Sequence[tuple[Record, list[str]]], judge: AnswerJudge
) -> dict[str, Any]:
    records = [record for record, _ in dialogues]
    questions = [
        Question(
            "text" if record["kind"] == "text" else "chat",
            text=None if record["codes"] else record["text"],
            codes=record["codes"],
            language=record["language"],
        )
        for record in records
    ]
    answers = _ask(checkpoint, questions, "qa")
    judged = [
        judge.is_right(record["text"], answer.text, accepted, record["language"])
        for (record, accepted), answer in zip(dialogues, answers, strict=True)
        if accepted
    ]
    factors = [seconds / length for seconds, length in _timed(checkpoint, questions) if length]
    result: dict[str, Any] = {"task": "qa", "count": len(records), "judged": len(judged)}
    if judged:
        result[f"right ({judge.name})"] = sum(judged) / len(judged)
    return {**result, **_cost(factors), "finished": _finished(answers)}


def _ask(checkpoint: Checkpoint, questions: Sequence[Question], name: str) -> list[Answer]:
    with progress_bar(total=len(questions), desc=name, leave=False) as bar:
        return checkpoint.ask(questions, bar.update)


def _timed(checkpoint: Checkpoint, questions: Sequence[Question]) -> list[tuple[float, float]]:
    """Seconds that a question took, and seconds of audio in its reply; one question at a time."""
    checkpoint.processor.codec  # noqa: B018 - loading is not part of the answer's time
    measured = []
    for question in questions[:TIMED]:
        start = time.perf_counter()
        (answer,) = checkpoint.ask([question])
        waveform = checkpoint.processor.decode_codes(answer.codes)
        measured.append(
            (time.perf_counter() - start, len(waveform) / checkpoint.processor.codec_config.output_sampling_rate)
        )
    return measured


def _cost(factors: Sequence[float]) -> dict[str, Any]:
    return {
        "real_time_factor": statistics.median(factors) if factors else None,
        "threads": torch.get_num_threads(),
        "peak_memory_bytes": peak_memory(),
    }


def _finished(answers: Sequence[Answer]) -> float:
    return sum(answer.finished for answer in answers) / len(answers)


def _keep(checkpoint: Checkpoint, waveforms: Sequence[np.ndarray], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, waveform in enumerate(waveforms, 1):
        checkpoint.processor.save_audio(waveform, folder / f"{number}.wav")


def _texts(records: Sequence[Record]) -> list[str]:
    return [record["text"] or "" for record in records]


def _language(records: Sequence[Record]) -> str | None:
    """The language of a set, in which it is judged."""
    return records[0]["language"]


def _languages(records: Sequence[Record]) -> list[str | None]:
    """The language of each text, by which it is normalised."""
    return [record["language"] for record in records]


def _default_language(name: str) -> str:
    """The language that a run was trained to be asked in without a tag."""
    base, adapter = split_model_name(name)
    return read_facts(Path(adapter or base)).recipe.get("default_language") or DEFAULT_LANGUAGE
