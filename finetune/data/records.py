"""
One record of a source (a line of a manifest, a row of a table) -> one item: what there is to learn from, under one
set of names.

The kind of a record follows from what it holds:

| it holds | the item is |
|---|---|
| `messages` | `messages`, perhaps with audio written as `<|audio_N|>` |
| `caption` and `audio` | audio and its description (`caption`); `text` is the instruction |
| an answer's audio | a spoken answer to a spoken or written question (`dialogue`) |
| an answer's words only | a written question and answer (`text`) |
| `audio` | a recording and its transcript (`recording`) |
| `text` and no field for audio | a `document`, or messages that were written out with their markers |

A field that is empty (null, "", NaN) is not held.

Depends on names of fields. Reads no audio and no files, and checks nothing: that is done in `record_maker.py`.
"""

import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .inline_audio import written_messages

# Names under which data sets keep the same thing; the first that is there counts.
FIELDS = {
    "id": ("id", "utt_id", "utterance_id", "segment_id"),
    "audio": ("audio", "audio_path", "audio_filepath", "file_name", "path", "file", "question_audio"),
    "text": ("text", "sentence", "transcription", "transcript", "question", "instruction"),
    "language": ("language", "language_id", "lang", "locale"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "answer_text": ("answer_text", "answer", "response"),
    "answer_audio": ("answer_audio", "answer_audio_path", "response_audio"),
    "caption": ("caption",),
    "messages": ("messages",),
    "words": ("words",),
    "answer_words": ("answer_words",),
    "split": ("split",),
}


@dataclass(frozen=True)
class Item:
    """
    One thing to learn from, as it was found. Every field but `id` and `kind` may be of any type: nothing was checked
    yet.

    Args:
        id (`str`): Names it among those of its source.
        kind (`str`): See `finetune.data.schema.KINDS`.
        audio: Path, or the bytes of a file, of the recording or of the question.
        text: Transcript, question, instruction or document.
        language: Tag of the language.
        speaker: Name of the speaker.
        answer_audio: Path or bytes.
        answer_text: The answer or the caption.
        words: Word times of `audio`.
        answer_words: Word times of `answer_audio`.
        messages: A list of messages.
        split: The split it has in its source.
        problem (`str`, *optional*): Why it could not even be read.
        detail (`str`): More about that.
    """

    id: str
    kind: str = "recording"
    audio: Any = None
    text: Any = None
    language: Any = None
    speaker: Any = None
    answer_audio: Any = None
    answer_text: Any = None
    words: Any = None
    answer_words: Any = None
    messages: Any = None
    split: Any = None
    problem: str | None = None
    detail: str = ""


def as_item(record: Any, number: int, folder: Path, columns: Mapping[str, str] | None = None) -> Item:
    """
    Read a record.

    Args:
        record (`dict`): Fields by name, see `FIELDS`.
        number (`int`): Its place in the source, for an id if it has none.
        folder (`Path`): Where relative paths begin.
        columns (`dict[str, str]`, *optional*): Which of the record's fields is the `text`, the `audio`, ... where
            they go by other names.

    Returns:
        [`Item`]
    """
    if not isinstance(record, Mapping):
        return Item(
            f"{number:08d}", problem="not a record", detail=f"a {type(record).__name__} and no set of named fields"
        )
    found = {field: _first(record, (columns or {}).get(field), names) for field, names in FIELDS.items()}
    caption = found.pop("caption")
    for field in ("audio", "answer_audio"):
        found[field] = _audio(found[field], folder)
    if caption is not None:
        found["answer_text"] = caption
    found["id"] = _text_id(found["id"], number)
    if found["messages"] is None and found["audio"] is None and isinstance(found["text"], str):
        found["messages"] = written_messages(found["text"])
    has_audio = any(name in record for name in (*FIELDS["audio"], (columns or {}).get("audio")))
    return Item(kind=_kind(found, caption is not None, has_audio), **found)


def _first(record: Mapping, named: str | None, names: tuple[str, ...]) -> Any:
    candidates = (named,) if named is not None else names
    return next((record[name] for name in candidates if not _is_missing(record.get(name))), None)


def _is_missing(value: object) -> bool:
    """Nothing, an empty cell of a table, or what data frames write for one."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _kind(found: Mapping[str, Any], is_caption: bool, has_audio: bool) -> str:
    if found["messages"] is not None:
        return "messages"
    if is_caption:
        return "caption"
    if found["answer_audio"] is not None:
        return "dialogue"
    if found["answer_text"] is not None:
        return "text"
    # An empty field for audio is missing audio, and not a text without audio.
    return "recording" if has_audio or found["text"] is None else "document"


def _text_id(value: object, number: int) -> str:
    if value in (None, "") or isinstance(value, (list, dict)):
        return f"{number:08d}"
    return unicodedata.normalize("NFC", str(value))


def _audio(value: Any, folder: Path) -> Any:
    """A path as a whole path, the bytes of a file as they are; other values are kept, to be refused later."""
    if isinstance(value, Mapping):  # an undecoded `datasets.Audio` value
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if not isinstance(value, str) or value.startswith(("http://", "https://")):
        return value
    try:
        return str(folder / Path(value).expanduser())
    except (ValueError, RuntimeError):  # a name that can be no path
        return value


def pack_items(items: list[Item]) -> dict[str, Any]:
    """
    Write items as plain columns, as data frames and other processes take them.

    Args:
        items (`list[Item]`): Items.

    Returns:
        `dict`: `items`, one JSON text, and `files`, a list of the bytes that were among them.
    """
    files: list[bytes] = []

    def reference(value: Any) -> Any:
        if isinstance(value, (bytes, bytearray)):
            files.append(bytes(value))
            return {"file": len(files) - 1}
        return {"unreadable": f"a {type(value).__name__}"}

    return {"items": json.dumps([vars(item) for item in items], default=reference), "files": files}


def unpack_items(packed: Mapping[str, Any]) -> list[Item]:
    """
    Read what `pack_items` wrote.

    Args:
        packed (`dict`): `items` and `files`.

    Returns:
        `list[Item]`
    """

    def resolved(value: Any) -> Any:
        return packed["files"][value["file"]] if isinstance(value, dict) and set(value) == {"file"} else value

    return [
        Item(**{name: resolved(value) if "audio" in name else value for name, value in fields.items()})
        for fields in json.loads(packed["items"])
    ]
