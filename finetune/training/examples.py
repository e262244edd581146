"""
Records of a prepared dataset -> training examples: token ids and labels of one task, in the layout of inference.

| kind | task | prompt | learnt |
|---|---|---|---|
| recording | `asr` | its audio | its text |
| recording | `tts` | its text | its text and audio, interleaved |
| recording with word times | `interleaved` | none | a document of its words, alternately written and spoken |
| caption | `caption` | instruction, if any, and audio | the caption |
| dialogue | `chat` | the question's audio, else its words | the answer's text and audio, interleaved |
| text | `text` | question | answer |
| document | `document` | none | the whole, audio too |
| messages | `messages` | all that is not the assistant's | every turn of the assistant |

A system prompt states the task. In a language other than the default one (English) it ends in a tag, `Language: it.`,
so that one model keeps its languages apart and can be asked for one; `processing_ttt.tasks_ttt.system_prompt` writes
it, for training and for inference alike.

Depends on records, tasks and the layout. Independent of waveforms, files and batches.
"""

import json
import random
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from finetune.data.inline_audio import Piece, split_written_audio
from finetune.data.schema import Record, WordTime, tasks_of
from processing_ttt.layout_ttt import IGNORE_INDEX, TttLayout, aligned_groups
from processing_ttt.tasks_ttt import DEFAULT_LANGUAGE, TASKS, chat_template, system_prompt
from processing_ttt.vocabulary_ttt import AUDIO_PLACEHOLDER, BEGIN_OF_MESSAGE, END_OF_MESSAGE

from .collate import Example

ALL_TASKS = (*TASKS, "interleaved", "document", "messages")
INTERLEAVED_WORDS = (2, 8)  # shortest and longest segment of an interleaved document, in words

_BEGIN_REPLY = f"{BEGIN_OF_MESSAGE}assistant\n"
_EMPTY_REPLY = _BEGIN_REPLY + END_OF_MESSAGE


def build_examples(
    record: Record,
    task: str,
    tokenizer: PreTrainedTokenizerBase,
    layout: TttLayout,
    frame_rate: float,
    aligned: bool | int = False,
    system_prompts: dict[str, str] | None = None,
    default_language: str = DEFAULT_LANGUAGE,
    rng: random.Random | None = None,
) -> Example:
    """
    Make the training example of a record for one task.

    Args:
        record ([`Record`]): Of a prepared dataset.
        task (`str`): One of `tasks_of(record)`.
        tokenizer (`PreTrainedTokenizerBase`): The model's.
        layout ([`TttLayout`]): The model's.
        frame_rate (`float`): Codes per second.
        aligned (`bool` or `int`, defaults to `False`): Words per group: each group of so many words is followed by
            its own audio, by the record's word times (`True` is 1). `False` is the layout's fixed pattern of text and
            audio tokens.
        system_prompts (`dict[str, str]`, *optional*): The processor's own.
        default_language (`str`, defaults to `"en"`): The language whose prompts have no tag.
        rng (`random.Random`, *optional*): Cuts interleaved documents; by default the record's id decides.

    Returns:
        [`Example`]

    Raises:
        ValueError: If the record cannot teach this task, or lacks the word times that `aligned` needs.
    """
    if task not in tasks_of(record):
        raise ValueError(
            f"Record {record['id']!r} is a {record['kind']} and cannot teach {task!r}, only "
            f"{', '.join(tasks_of(record))}."
            + (" Word times (`ttt prepare --align`) would make it fit." if task == "interleaved" else "")
        )
    if task == "messages":
        default_prompt = system_prompt("chat", record["language"], system_prompts, default_language)
        return _messages_example(json.loads(record["messages"] or "[]"), tokenizer, layout, default_prompt)
    if task == "document":
        return _whole(_encoded(split_written_audio(record["text"] or ""), tokenizer), layout)
    if task == "interleaved":
        pieces = _alternating(record, frame_rate, rng or random.Random(record["id"]))
        return _whole(_encoded(pieces, tokenizer), layout)
    prompt: dict[str, Any] = {
        "system_prompt": system_prompt(task, record["language"], system_prompts, default_language)
    }
    if task in ("tts", "text") or (task == "chat" and record["codes"] is None) or task == "caption":
        prompt["text"] = record["text"]
    if task in ("asr", "chat", "caption"):
        prompt["codes"] = record["codes"]
    built = layout.build_example(tokenizer, task, **prompt, **_reply(record, task, frame_rate, aligned))
    return {"input_ids": built["input_ids"], "labels": built["labels"]}


def _reply(record: Record, task: str, frame_rate: float, aligned: bool | int) -> dict[str, Any]:
    """The reply as `TttLayout.build_example` takes it."""
    if task in ("asr", "tts"):
        text, codes, words = record["text"], record["codes"], record["words"]
    else:
        text, codes, words = record["answer_text"], record["answer_codes"], record["answer_words"]
    if not TASKS[task].speaks:
        return {"reply_text": text}
    if not aligned:
        return {"reply_text": text, "reply_codes": codes}
    if not words:
        raise ValueError(
            f"Record {record['id']!r} has no word times, which an aligned layout needs: prepare the data with `--align "
            "proportional`, or give word times in the manifest, or train without `aligned`."
        )
    return {"reply_groups": aligned_groups(_as_tuples(words), codes or [], frame_rate, int(aligned))}


def _as_tuples(words: Sequence[WordTime]) -> list[tuple[str, float, float]]:
    return [(word["word"], word["start"], word["end"]) for word in words]


def _alternating(record: Record, frame_rate: float, rng: random.Random) -> list[Piece]:
    """Cut a recording into segments of words, alternately written and spoken; a coin decides which is first."""
    pieces = aligned_groups(_as_tuples(record["words"] or []), record["codes"] or [], frame_rate, 1)
    turns: list[Piece] = []
    written = rng.random() < 0.5
    start = 0
    while start < len(pieces):
        segment = pieces[start : start + rng.randint(*INTERLEAVED_WORDS)]
        text = "".join(word for word, _ in segment) if written else ""
        codes = [] if written else [code for _, codes in segment for code in codes]
        if turns and not written:
            turns[-1] = (turns[-1][0], codes)
        else:
            turns.append((text, codes))
        start += len(segment)
        written = not written
    return turns


def _encoded(pieces: Sequence[Piece], tokenizer: PreTrainedTokenizerBase) -> list[tuple[list[int], list[int]]]:
    return [(tokenizer.encode(text, add_special_tokens=False), codes) for text, codes in pieces]


def _whole(pieces: Sequence[tuple[list[int], list[int]]], layout: TttLayout) -> Example:
    """A document: everything is learnt, its end too."""
    ids = [*layout.build_aligned_reply(pieces), layout.vocabulary.eos_token_id]
    return {"input_ids": ids, "labels": list(ids)}


def _messages_example(
    messages: Sequence[dict[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    layout: TttLayout,
    default_system_prompt: str,
) -> Example:
    """Messages of any number of turns; a reply's spans get their markers from the layout."""
    replies, shown = [], []
    audio: list[list[int]] = []
    for message in messages:
        pieces = split_written_audio(message["content"])
        if message["role"] == "assistant":
            replies.append(pieces)
            shown.append({"role": "assistant", "content": ""})
        else:
            audio += [codes for _, codes in pieces if codes]
            content = "".join(text + (AUDIO_PLACEHOLDER if codes else "") for text, codes in pieces)
            shown.append({"role": message["role"], "content": content})
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError("Messages must end with one of the assistant: that is what is learnt.")
    rendered = tokenizer.apply_chat_template(shown, chat_template=chat_template(default_system_prompt), tokenize=False)
    remaining = iter(audio)
    example: Example = {"input_ids": [], "labels": []}
    for between, pieces in zip(rendered.split(_EMPTY_REPLY), replies, strict=False):
        prompt = tokenizer.encode(between + _BEGIN_REPLY, add_special_tokens=False)
        count = between.count(AUDIO_PLACEHOLDER)
        prompt = layout.fill_audio(prompt, [next(remaining) for _ in range(count)])
        reply = [*layout.build_aligned_reply(_encoded(pieces, tokenizer)), layout.vocabulary.eos_token_id]
        example["input_ids"] += prompt + reply
        example["labels"] += [IGNORE_INDEX] * len(prompt) + reply
    return example
