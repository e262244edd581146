"""
The tasks of a Text-to-Talk model and their prompts: system prompts, chat template, the messages of one turn.

Roles and messages are those of transformers' chat templates. Independent of token ids, codes and waveforms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict

from .vocabulary_ttt import AUDIO_PLACEHOLDER


def check_text(text: str) -> None:
    """Refuse a text that no tokenizer takes: one with a lone surrogate, from bytes that were no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The text has the lone surrogate {text[error.start]!r} at position {error.start}: it was decoded from "
            "bytes that are not UTF-8; give it in UTF-8."
        ) from error


class TextPart(TypedDict):
    """Text of a message."""

    type: Literal["text"]
    text: str


class AudioPart(TypedDict):
    """Audio of a user message, in any form that `load_audio` takes."""

    type: Literal["audio"]
    audio: Any


class Message(TypedDict):
    """A message, as transformers' chat templates take it."""

    role: str
    content: str | list[TextPart | AudioPart]


Messages: TypeAlias = list[Message]


@dataclass(frozen=True)
class TttTask:
    """
    Input and output of a task.

    Args:
        system_prompt (`str`): Instruction to the model.
        needs_audio (`bool`): Whether the user must send audio.
        takes_audio (`bool`): Whether the user may send audio.
        speaks (`bool`): Whether the reply interleaves text and audio; otherwise it is text only.
    """

    system_prompt: str
    needs_audio: bool
    takes_audio: bool
    speaks: bool


TASKS = {
    "chat": TttTask("Answer the user in text and speech.", needs_audio=False, takes_audio=True, speaks=True),
    "asr": TttTask("Write down what the user says.", needs_audio=True, takes_audio=True, speaks=False),
    "tts": TttTask("Read the user's text aloud.", needs_audio=False, takes_audio=False, speaks=True),
    "text": TttTask("Answer the user in text.", needs_audio=False, takes_audio=False, speaks=False),
    "caption": TttTask("Describe the sound in text.", needs_audio=True, takes_audio=True, speaks=False),
}

DEFAULT_LANGUAGE = "en"  # its prompts carry no tag

# The wording that the released checkpoints were trained with, taken from their sample data (which has no tts).
_RELEASED = "generate 13 text tokens followed by 26 audio tokens, and repeat this pattern until the {} is complete."
RELEASED_SYSTEM_PROMPTS = {
    "chat": "You are an audio-to-audio chat model. The user will provide you with an audio input. Your task "
    "is to respond in an interleaved format: " + _RELEASED.format("response"),
    "asr": "You are an Automatic Speech Recognition (ASR) model. The user will provide you with an audio "
    "input. Your task is to transcribe the audio into text and output the result in an interleaved format: "
    + _RELEASED.format("transcription"),
    "text": "You are a helpful model.",
    "caption": "You are a helpful audio model. The user will provide you with a text-based instruction and "
    "an audio input. Your task is to follow the instruction based on the audio and output the result in an "
    "interleaved format: " + _RELEASED.format("transcription"),
}


def chat_template(default_system_prompt: str = TASKS["chat"].system_prompt) -> str:
    """
    Write the Jinja chat template: Qwen's framing, with one `<|audio|>` placeholder for each audio part.

    Args:
        default_system_prompt (`str`): Put in front of messages that do not begin with a system message.

    Returns:
        `str`: The template.
    """
    quoted = default_system_prompt.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return (
        "{%- if messages[0]['role'] != 'system' -%}"
        "{{- '<|im_start|>system\\n" + quoted + "<|im_end|>\\n' -}}"
        "{%- endif -%}"
        "{%- for message in messages -%}"
        "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
        "{%- if message['content'] is string -%}"
        "{{- message['content'] -}}"
        "{%- else -%}"
        "{%- for part in message['content'] -%}"
        "{%- if part['type'] == 'text' -%}"
        "{{- part['text'] -}}"
        "{%- elif part['type'] == 'audio' and message['role'] == 'user' -%}"
        "{{- '" + AUDIO_PLACEHOLDER + "' -}}"
        "{%- else -%}"
        "{{- raise_exception('A ' + message['role'] + ' message cannot hold ' + part['type'] + "
        "': a user message takes text and audio, any other message text only.') -}}"
        "{%- endif -%}"
        "{%- endfor -%}"
        "{%- endif -%}"
        "{{- '<|im_end|>\\n' -}}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}"
        "{{- '<|im_start|>assistant\\n' -}}"
        "{%- endif -%}"
    )


CHAT_TEMPLATE = chat_template()


def system_prompt(
    task: str,
    language: str | None = None,
    system_prompts: Mapping[str, str] | None = None,
    default_language: str = DEFAULT_LANGUAGE,
) -> str:
    """
    Write the system prompt of a task in a language.

    Args:
        task (`str`): One of `TASKS`.
        language (`str`, *optional*): Language tag, as the training data has it (`it`, `pt-BR`).
        system_prompts (`Mapping[str, str]`, *optional*): System prompts by task, where they differ from `TASKS`.
        default_language (`str`, defaults to `"en"`): The language that needs no tag.

    Returns:
        `str`: The task's prompt, followed by ` Language: it.` in another language than the default one.

    Raises:
        ValueError: If the task is unknown.
    """
    _check_task(task)
    prompt = (system_prompts or {}).get(task, TASKS[task].system_prompt)
    return prompt if language in (None, "", default_language) else f"{prompt} Language: {language}."


def _check_task(task: str) -> None:
    if task not in TASKS:
        raise ValueError(f"Unknown task {task!r}: choose one of {', '.join(TASKS)}.")


def task_messages(task: str, text: str | None = None, audio: Any = None, system_prompt: str | None = None) -> Messages:
    """
    Write the messages of one turn that asks for a task.

    Args:
        task (`str`): One of `TASKS`.
        text (`str`, *optional*): The user's text; it comes before the audio.
        audio (*optional*): The user's audio, in any form that the processor takes; it is passed through.
        system_prompt (`str`, *optional*): Replaces the task's own.

    Returns:
        `list[dict]`: A system and a user message.

    Raises:
        ValueError: If the task is unknown, or its input is missing or of the wrong kind.
    """
    _check_task(task)
    if TASKS[task].needs_audio and audio is None:
        raise ValueError(f"The task {task!r} needs audio.")
    if not TASKS[task].takes_audio and audio is not None:
        raise ValueError(f"The task {task!r} takes text only, but audio came.")
    if text is None and audio is None:
        raise ValueError(f"The task {task!r} needs text{' or audio' if TASKS[task].takes_audio else ''}.")
    if audio is None and not str(text).strip():
        raise ValueError(f"The text of the task {task!r} is empty: give some words.")
    content: list[TextPart | AudioPart] = [] if text is None else [{"type": "text", "text": text}]
    if audio is not None:
        content.append({"type": "audio", "audio": audio})
    return [
        {"role": "system", "content": TASKS[task].system_prompt if system_prompt is None else system_prompt},
        {"role": "user", "content": content},
    ]
