"""
Items to records: texts are checked, audio is read and encoded, word times are added; what cannot be used becomes a
problem with a reason. Whatever an item holds, `RecordMaker.make` does not fail.

Depends on the processor, the limits and the reasons. Independent of folders and splits.
"""

import json
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from processing_ttt import TttProcessor
from processing_ttt.audio_input_ttt import AudioInputError, load_audio

from .alignment import proportional_word_times
from .encoding import encode_waveforms
from .inline_audio import control_tokens, split_written_audio
from .languages import language_tag
from .records import Item
from .schema import Record, WordTime, make_record

CodesColumn = Literal["codes", "answer_codes"]

ROLES = ("system", "user", "assistant")
MAX_NAME_LENGTH = 200  # characters of an id, a speaker or a language

# Names in the report, by the reason that reading gives.
_AUDIO_REASONS = {
    "empty": "empty audio",
    "silent": "silent audio",
    "not_finite": "NaN or infinite samples",
    "too_long": "audio too long",
    "out_of_range": "samples beyond full scale",
}


@dataclass(frozen=True)
class Limits:
    """
    What can be used, and what is added.

    Args:
        min_seconds (`float`, defaults to 0.1): Shortest audio.
        max_seconds (`float`, defaults to 30): Longest audio.
        max_characters (`int`, defaults to 1000): Longest transcript, question, answer or caption. Documents and
            messages have no limit here; training leaves out what is too long for it.
        align (`str`, defaults to `"none"`): `proportional` adds word times, see `alignment.py`.
        language (`str`, *optional*): Of items without one.
        speaker (`str`, *optional*): Of items without one.
    """

    min_seconds: float = 0.1
    max_seconds: float = 30.0
    max_characters: int = 1000
    align: str = "none"
    language: str | None = None
    speaker: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds < self.max_seconds:
            raise ValueError(f"Audio must be from {self.min_seconds} to {self.max_seconds} s long: no audio is.")
        if self.max_characters < 1:
            raise ValueError(f"`max_characters` must be at least 1, but is {self.max_characters}.")
        if self.align not in ("none", "proportional"):
            raise ValueError(f"`align` is 'none' or 'proportional', but is {self.align!r}.")


class Problem(Exception):
    """
    Why an item cannot be used.

    Args:
        reason (`str`): One of few, to be counted.
        detail (`str`): About this item.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass
class Made:
    """
    The result for some items.

    Args:
        records (`list[Record]`): In the order of the items.
        splits (`list[str | None]`): The split that each record has in its source.
        problems (`list[dict]`): `id`, `reason` and `detail` of each item without a record.
    """

    records: list[Record] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Draft:
    """
    A record whose audio is read and not encoded yet.

    Args:
        item ([`Item`]): What it was made of.
        record ([`Record`]): Without codes.
        waveforms (`dict[str, np.ndarray]`): Float32 samples at the codec's input rate, by the column that their codes
            will have.
    """

    item: Item
    record: Record
    waveforms: dict[CodesColumn, np.ndarray] = field(default_factory=dict)


class RecordMaker:
    """
    Makes records.

    Args:
        processor ([`TttProcessor`]): Its codec encodes; its tokenizer defines the special tokens.
        limits ([`Limits`]): What can be used.
        batch_size (`int`): Recordings encoded together.
    """

    def __init__(self, processor: TttProcessor, limits: Limits, batch_size: int = 1):
        self.processor = processor
        self.limits = limits
        self.batch_size = batch_size
        self.config = processor.codec_config
        added = processor.tokenizer.get_added_vocab()
        self._special = [token for token in added if not control_tokens(token)]

    def make(self, items: Sequence[Item]) -> Made:
        """
        Make the records of some items.

        Args:
            items (`Sequence[Item]`): Items.

        Returns:
            [`Made`]
        """
        made = Made()
        drafts: list[Draft] = []
        for item in items:
            try:
                drafts.append(self.read(item))
            except Problem as problem:
                made.problems.append(_problem_entry(item, problem))
        waveforms = [waveform for draft in drafts for waveform in draft.waveforms.values()]
        codes = iter(encode_waveforms(self.processor, waveforms, self.batch_size))
        for draft in drafts:
            try:
                self._finish(draft, {column: next(codes) for column in draft.waveforms})
            except Problem as problem:
                made.problems.append(_problem_entry(draft.item, problem))
            else:
                made.records.append(draft.record)
                made.splits.append(None if draft.item.split is None else str(draft.item.split))
        return made

    # ----------------------------------------------------------------------------------------------------------- drafts

    def read(self, item: Item) -> Draft:
        """
        Check an item and read its audio.

        Args:
            item ([`Item`]): Anything.

        Returns:
            [`Draft`]

        Raises:
            Problem: If it cannot be used.
        """
        if item.problem is not None:
            raise Problem(item.problem, item.detail)
        record = make_record(
            _name(item.id, "id") or "",
            item.kind,
            language=language_tag(_name(item.language or self.limits.language, "language")),
            speaker=_name(item.speaker or self.limits.speaker, "speaker"),
        )
        draft = Draft(item, record)
        if item.kind == "messages":
            self._add_messages(draft)
        elif item.kind == "document":
            record["text"] = text = self._written(item.text)
            record["seconds"] = self._seconds_written([text])
        else:
            self._add_words_and_audio(draft)
        return draft

    def _add_words_and_audio(self, draft: Draft) -> None:
        item, record = draft.item, draft.record
        spoken_question = item.audio is not None
        if item.kind == "text" and spoken_question:
            raise Problem("no answer audio", "the question is spoken and the answer is not: no task is like this")
        may_lack_text = item.kind == "caption" or (item.kind == "dialogue" and spoken_question)
        if item.text is not None or not may_lack_text:
            record["text"] = self._words(item.text, "text")
        if item.kind != "recording":
            record["answer_text"] = self._words(item.answer_text, "answer")
        if item.kind in ("recording", "caption") or (item.kind == "dialogue" and spoken_question):
            draft.waveforms["codes"] = self._waveform(item.audio)
        if item.kind == "dialogue":
            draft.waveforms["answer_codes"] = self._waveform(item.answer_audio)
        record["seconds"] = sum(map(len, draft.waveforms.values())) / self.config.sampling_rate

    def _finish(self, draft: Draft, encoded: dict[CodesColumn, list[int] | Exception]) -> None:
        """Add the codes and the word times."""
        item, record = draft.item, draft.record
        for column, codes in encoded.items():
            if isinstance(codes, Exception):
                raise Problem("the codec refuses it", str(codes))
            record[column] = codes
            text = record["text" if column == "codes" else "answer_text"]
            if text is None or item.kind not in ("recording", "dialogue"):
                continue
            given = item.words if column == "codes" else item.answer_words
            times = self._word_times(given, text, draft.waveforms[column], len(codes))
            record["words" if column == "codes" else "answer_words"] = times

    def _word_times(self, given: Any, text: str, samples: np.ndarray, num_codes: int) -> list[WordTime] | None:
        if len(text.split()) > num_codes:
            raise Problem(
                "more words than codes", f"{len(text.split())} words in {num_codes} codes: is it the right transcript?"
            )
        if given is not None:
            return _given_word_times(given, text, len(samples) / self.config.sampling_rate)
        if self.limits.align == "proportional":
            return proportional_word_times(text, samples, self.config.sampling_rate)
        return None

    # ------------------------------------------------------------------------------------------------------------ texts

    def _words(self, value: object, field: str) -> str:
        """Words to be spoken or read: in one line, without anything that a tokenizer would read as a marker."""
        text = " ".join(_checked_text(value, field).split())
        found = control_tokens(text) + [token for token in self._special if token in text]
        if found:
            raise Problem("special tokens in the text", f"the {field} holds {found[0]}")
        if len(text) > self.limits.max_characters:
            raise Problem(
                "text too long", f"the {field} has {len(text)} characters, the limit is {self.limits.max_characters}"
            )
        return text

    def _written(self, value: object) -> str:
        """A text with audio tokens in it."""
        text = _checked_text(value, "text").strip()
        found = [token for token in self._special if token in text]
        if found:
            raise Problem("special tokens in the text", f"it holds {found[0]}")
        try:
            pieces = split_written_audio(text)
        except ValueError as error:
            raise Problem("special tokens in the text", str(error)) from error
        largest = max((code for _, codes in pieces for code in codes), default=0)
        if largest >= self.config.codebook_size:
            raise Problem(
                "code beyond the codebook", f"<|audio_{largest}|>, but the codec has {self.config.codebook_size} codes"
            )
        return text

    def _add_messages(self, draft: Draft) -> None:
        messages = _from_json(draft.item.messages, "bad messages")
        if not isinstance(messages, list) or not messages:
            raise Problem("bad messages", "not a list of messages")
        clean = []
        for message in messages:
            role = message.get("role") if isinstance(message, dict) else None
            if role not in ROLES:
                raise Problem("bad messages", f"a message needs a role of {', '.join(ROLES)}, and content")
            clean.append({"role": role, "content": self._written(message.get("content"))})
        if clean[-1]["role"] != "assistant":
            raise Problem("bad messages", "the last message is not the assistant's")
        draft.record["messages"] = json.dumps(clean, ensure_ascii=False)
        draft.record["seconds"] = self._seconds_written([message["content"] for message in clean])

    def _seconds_written(self, texts: Sequence[str]) -> float:
        return sum(len(codes) for text in texts for _, codes in split_written_audio(text)) / self.config.frame_rate

    # ------------------------------------------------------------------------------------------------------------ audio

    def _waveform(self, audio: object) -> np.ndarray:
        if audio is None:
            raise Problem("no audio file", "none is named")
        if not isinstance(audio, (str, bytes)):
            raise Problem("unreadable audio", f"neither a path nor the bytes of a file, but a {type(audio).__name__}")
        try:
            samples = load_audio(audio, self.config.sampling_rate, max_seconds=self.limits.max_seconds)
        except FileNotFoundError as error:
            raise Problem("no audio file", str(error)) from error
        except Exception as error:  # decoders fail in ways of their own, and one file must not end hours of work
            given = error.reason if isinstance(error, AudioInputError) else "unreadable"
            reason = _AUDIO_REASONS.get(given, "unreadable audio")
            if reason == "audio too long":
                raise Problem(
                    reason, f"longer than {self.limits.max_seconds:g} s: cut it, or raise --max-seconds"
                ) from error
            raise Problem(reason, str(error)) from error
        seconds = len(samples) / self.config.sampling_rate
        if seconds < self.limits.min_seconds:
            raise Problem("audio too short", f"{seconds:.3f} s, the limit is {self.limits.min_seconds:g} s")
        return samples


def _problem_entry(item: Item, problem: Problem) -> dict[str, str]:
    """A line of the report, readable whatever the item's id is."""
    detail = problem.detail.encode("utf-8", "backslashreplace").decode()[:500]
    return {
        "id": str(item.id).encode("utf-8", "backslashreplace").decode()[:MAX_NAME_LENGTH],
        "reason": problem.reason,
        "detail": detail,
    }


def _checked_text(value: object, field: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise Problem("no text", f"there is no {field}")
    if not isinstance(value, str):
        raise Problem("no text", f"the {field} is a {type(value).__name__} and no text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Problem("text in an unknown encoding", f"the {field} is not UTF-8") from error
    text = unicodedata.normalize("NFC", value)
    if "\x00" in text or "\ufffd" in text:
        raise Problem("text in an unknown encoding", f"the {field} holds NUL or replacement characters")
    if not any(character.isalnum() for character in text):
        raise Problem("no text", f"the {field} {text[:50]!r} holds no letter and no digit")
    return text


def _name(value: object, field: str) -> str | None:
    """An id, a speaker or a language: one line that can be shown, stored and put into a prompt."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    name = unicodedata.normalize("NFC", str(value)) if isinstance(value, (str, int)) else ""
    if not name.isprintable() or not name.strip() or len(name) > MAX_NAME_LENGTH or control_tokens(name):
        raise Problem(f"bad {field}", f"{str(value)[:50]!r} is no name")
    return name


def _from_json(value: Any, reason: str) -> Any:
    """What a table without lists holds as text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise Problem(reason, f"no JSON ({error})") from error


def _given_word_times(given: Any, text: str, seconds: float) -> list[WordTime]:
    """
    Word times of the source, each `{"word", "start", "end"}` or `[word, start, end]`: in order, within the audio, and
    with the words of the text.
    """
    given = _from_json(given, "bad word times")
    try:
        triples = [(w["word"], w["start"], w["end"]) if isinstance(w, dict) else tuple(w) for w in given]
        times: list[WordTime] = [
            {"word": unicodedata.normalize("NFC", word), "start": float(start), "end": float(end)}
            for word, start, end in triples
        ]
    except (TypeError, ValueError, KeyError) as error:
        raise Problem("bad word times", "not a list of word, start and end") from error
    bounds = [bound for time in times for bound in (time["start"], time["end"])]
    if bounds != sorted(bounds) or not all(0 <= bound <= seconds + 0.1 for bound in bounds):
        raise Problem("bad word times", f"not in order, or not within the {seconds:.2f} s of the audio")
    if [time["word"] for time in times] != text.split():
        raise Problem("bad word times", "the words are not those of the text")
    return times
