"""
The layout of a Text-to-Talk sequence: prompts, the interleaving of a reply's text and audio, and the inverse.

A training example (`TttLayout.build_example`) and an inference prompt (the processor's `apply_chat_template`) come from
the same template and are equal token for token. A reply is a list of pieces, each text followed by audio (section 3.1
of the paper):

    text <|begin_of_audio|> codes <|end_of_audio_new|>  text <|begin_of_audio|> codes <|end_of_audio_new|>  ...
    text <|begin_of_quad|> codes <|end_of_audio_span_last|> <|im_end|>

The span with the reply's last code is the last span; all others are ordinary.

Depends on the vocabulary and the tasks. Independent of waveforms, files and models.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from .reply_parser_ttt import AudioSpan, ParsedReply, ReplyParser
from .tasks_ttt import CHAT_TEMPLATE, RELEASED_SYSTEM_PROMPTS, TASKS, TttTask, chat_template, task_messages
from .vocabulary_ttt import AUDIO_PLACEHOLDER, TttVocabulary

__all__ = [
    "CHAT_TEMPLATE",
    "IGNORE_INDEX",
    "RELEASED_SYSTEM_PROMPTS",
    "TASKS",
    "AudioSpan",
    "ParsedReply",
    "ReplyParser",
    "TttLayout",
    "TttTask",
    "aligned_groups",
    "chat_template",
    "task_messages",
]

IGNORE_INDEX = -100  # label of positions without loss, as in transformers


@dataclass(frozen=True)
class TttLayout:
    """
    Builds prompts, replies and training examples as token ids, and parses replies.

    Args:
        vocabulary (`TttVocabulary`): Token ids of markers and codes.
        text_tokens (`int`, defaults to 13): Text tokens before each span of a reply.
        audio_tokens (`int`, defaults to 26): Codes in each span but the last (2.08 s at 12.5 codes per second).
    """

    vocabulary: TttVocabulary
    text_tokens: int = 13
    audio_tokens: int = 26

    def __post_init__(self) -> None:
        for name in ("text_tokens", "audio_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, but is {getattr(self, name)}.")

    # ---------------------------------------------------------------------------------------------------------- prompts

    def audio_prompt(self, codes: Iterable[int]) -> list[int]:
        """Write a user's audio: `<|begin_of_audio|>` codes `<|end_of_audio|>`."""
        vocabulary = self.vocabulary
        return [vocabulary.begin_audio_token_id, *vocabulary.codes_to_ids(codes), vocabulary.end_user_audio_token_id]

    def fill_audio(self, ids: Sequence[int], audio_codes: Sequence[Iterable[int]]) -> list[int]:
        """
        Replace each `<|audio|>` placeholder of a tokenized prompt by audio.

        Args:
            ids (`Sequence[int]`): A tokenized prompt.
            audio_codes (sequence of codes): The codes of each audio, in order.

        Returns:
            `list[int]`: The prompt with `<|begin_of_audio|>` codes `<|end_of_audio|>` in place of each placeholder.

        Raises:
            ValueError: If the numbers of placeholders and of audio differ.
        """
        placeholder = self.vocabulary.audio_token_start_id
        count = sum(token_id == placeholder for token_id in ids)
        if count != len(audio_codes):
            raise ValueError(
                f"The prompt has {count} {AUDIO_PLACEHOLDER} placeholders, but audio for {len(audio_codes)}: give "
                "one for each."
            )
        remaining = iter(audio_codes)
        filled: list[int] = []
        for token_id in ids:
            filled.extend(self.audio_prompt(next(remaining)) if token_id == placeholder else [token_id])
        return filled

    def build_prompt(
        self,
        tokenizer: PreTrainedTokenizerBase,
        task: str,
        text: str | None = None,
        codes: Iterable[int] | None = None,
        system_prompt: str | None = None,
        template: str = CHAT_TEMPLATE,
    ) -> list[int]:
        """
        Write the prompt of a task, up to where the reply begins.

        Args:
            tokenizer (`PreTrainedTokenizerBase`): The tokenizer that `vocabulary` was read from.
            task (`str`): One of `TASKS`.
            text (`str`, *optional*): The user's text.
            codes (iterable of `int`, *optional*): The codes of the user's audio.
            system_prompt (`str`, *optional*): Replaces the task's own.
            template (`str`, *optional*): The chat template.

        Returns:
            `list[int]`: Token ids of the prompt.
        """
        messages = task_messages(task, text, codes, system_prompt)
        rendered = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer.encode(rendered, add_special_tokens=False)
        return self.fill_audio(ids, [] if codes is None else [codes])

    # ---------------------------------------------------------------------------------------------------------- replies

    def build_reply(self, text_ids: Sequence[int], codes: Sequence[int] = ()) -> list[int]:
        """
        Interleave a reply: `text_tokens` text token ids, `audio_tokens` codes, and so on (13 and 26 in the paper).

        After the last text token, all remaining codes follow in the last span, of any length. If the codes end first,
        the span with the last of them is the last span, and the rest of the text follows it in one segment. Without
        codes a reply is its text, without text it is one last span. The caller adds the end of the reply, `<|im_end|>`.

        Args:
            text_ids (`Sequence[int]`): Text token ids, without markers.
            codes (`Sequence[int]`): Codec codes.

        Returns:
            `list[int]`: Token ids of the reply.

        Raises:
            ValueError: If a text token is a marker or audio, or a code is not in the codebook.
        """
        pieces = []
        text_start = code_start = 0
        while text_start < len(text_ids) or code_start < len(codes):
            text_end = text_start + self.text_tokens
            code_end = code_start + self.audio_tokens if text_end < len(text_ids) else len(codes)
            pieces.append((text_ids[text_start:text_end], codes[code_start:code_end]))
            text_start, code_start = text_end, code_end
        return self.build_aligned_reply(pieces)

    def build_aligned_reply(self, groups: Iterable[tuple[Sequence[int], Sequence[int]]]) -> list[int]:
        """
        Write a reply in which each group of words is followed by exactly its own audio.

        Args:
            groups (iterable of `(text_ids, codes)`): Pieces in order. A piece without codes has no span, one without
            text only its span.

        Returns:
            `list[int]`: Token ids of the reply, without `<|im_end|>`.

        Raises:
            ValueError: If a text token is a marker or audio, or a code is not in the codebook.
        """
        vocabulary = self.vocabulary
        pieces = [(self._checked_text(text_ids), vocabulary.codes_to_ids(codes)) for text_ids, codes in groups]
        last = max((index for index, (_, code_ids) in enumerate(pieces) if code_ids), default=-1)
        reply: list[int] = []
        for index, (text_ids, code_ids) in enumerate(pieces):
            reply += text_ids
            if index == last:
                reply += [vocabulary.begin_last_audio_token_id, *code_ids, vocabulary.end_last_audio_token_id]
            elif code_ids:
                reply += [vocabulary.begin_audio_token_id, *code_ids, vocabulary.end_audio_token_id]
        return reply

    def parse_reply(self, ids: Iterable[int]) -> ParsedReply:
        """
        Parse a reply, finished or not. Damaged input never fails: token ids that do not belong in a reply are dropped
        and counted.

        Codes without a begin marker are kept as a span; a begin marker or a text token ends a span that was not closed;
        padding is ignored; `<|im_end|>` ends the reply.

        Args:
            ids (iterable of `int`, 1-D tensor or array): Token ids after the prompt.

        Returns:
            `ParsedReply`: Text token ids, codes and spans.
        """
        parser = ReplyParser(self.vocabulary)
        parser.push(ids)
        return parser.finish()

    # --------------------------------------------------------------------------------------------------------- examples

    def build_example(
        self,
        tokenizer: PreTrainedTokenizerBase,
        task: str,
        text: str | None = None,
        codes: Iterable[int] | None = None,
        reply_text: str | None = None,
        reply_codes: Sequence[int] = (),
        reply_groups: Sequence[tuple[str, Sequence[int]]] | None = None,
        system_prompt: str | None = None,
    ) -> dict[str, list[int]]:
        """
        Write a training example: the prompt of a task and its reply. Labels are the reply with its markers and
        `<|im_end|>`.

        Args:
            tokenizer (`PreTrainedTokenizerBase`): The tokenizer that `vocabulary` was read from.
            task (`str`): One of `TASKS`.
            text (`str`, *optional*): The user's text.
            codes (iterable of `int`, *optional*): The codes of the user's audio.
            reply_text (`str`, *optional*): The reply's text.
            reply_codes (`Sequence[int]`, *optional*): The codes of its audio, interleaved in this layout's pattern.
            reply_groups (sequence of `(str, codes)`, *optional*): Replaces both: groups of words with their own
                audio, from `aligned_groups`.
            system_prompt (`str`, *optional*): Replaces the task's own.

        Returns:
            `dict`: `input_ids` and `labels` (-100 on the prompt), lists of `int` of equal length.

        Raises:
            ValueError: If the reply is given twice or not at all, or has audio although the task has none, or lacks
                it.
        """
        prompt = self.build_prompt(tokenizer, task, text, codes, system_prompt)
        if (reply_text is None) == (reply_groups is None) or (reply_groups is not None and len(reply_codes)):
            raise ValueError(
                "Give a reply either as `reply_text` (with or without `reply_codes`) or as `reply_groups`."
            )
        if reply_groups is None:
            speaks = len(reply_codes) > 0
            reply = self.build_reply(tokenizer.encode(reply_text, add_special_tokens=False), reply_codes)
        else:
            speaks = any(len(group_codes) for _, group_codes in reply_groups)
            reply = self.build_aligned_reply(
                (tokenizer.encode(group_text, add_special_tokens=False), group_codes)
                for group_text, group_codes in reply_groups
            )
        if speaks != TASKS[task].speaks:
            raise ValueError(
                f"A reply to the task {task!r} has {'text and audio' if TASKS[task].speaks else 'text only'}."
            )
        reply.append(self.vocabulary.eos_token_id)
        return {"input_ids": prompt + reply, "labels": [IGNORE_INDEX] * len(prompt) + reply}

    def _checked_text(self, text_ids: Iterable[int]) -> list[int]:
        vocabulary = self.vocabulary
        markers = (
            vocabulary.begin_audio_token_id,
            vocabulary.begin_last_audio_token_id,
            vocabulary.end_user_audio_token_id,
            vocabulary.begin_message_token_id,
            vocabulary.eos_token_id,
            vocabulary.pad_token_id,
        )
        text_ids = [int(token_id) for token_id in text_ids]
        for token_id in text_ids:
            if token_id in markers or not 0 <= token_id < vocabulary.audio_token_start_id:
                raise ValueError(f"Token id {token_id} is not text: a reply's text has no markers and no audio.")
        return text_ids


def aligned_groups(
    words: Sequence[tuple[str, float, float]], codes: Sequence[int], frame_rate: float, words_per_group: int = 2
) -> list[tuple[str, list[int]]]:
    """
    Cut an utterance into groups of words, each with exactly its own codes.

    A cut is half-way between the end of a group's last word and the start of the next group's first word, rounded to
    a frame; the silence before the first word and after the last one belongs to their groups. Every code belongs to a
    group, and each group has at least one.

    Args:
        words (sequence of `(word, start, end)`): The words in order, with times in seconds.
        codes (`Sequence[int]`): The codes of the whole utterance.
        frame_rate (`float`): Codes per second.
        words_per_group (`int`, defaults to 2): Words per group; the last group may have fewer.

    Returns:
        `list[tuple[str, list[int]]]`: Text and codes of each group. Every text but the first begins with a space.

    Raises:
        ValueError: If there are no words or fewer codes than groups.
    """
    if words_per_group < 1:
        raise ValueError(f"`words_per_group` must be at least 1, but is {words_per_group}.")
    groups = [words[start : start + words_per_group] for start in range(0, len(words), words_per_group)]
    if not groups or len(codes) < len(groups):
        raise ValueError(
            f"{len(codes)} codes cannot be divided among {len(groups)} groups of words: each needs a word and a code."
        )
    codes = [int(code) for code in codes]
    bounds = [0]
    for index in range(1, len(groups)):
        seconds = (groups[index - 1][-1][2] + groups[index][0][1]) / 2
        room_after = len(codes) - (len(groups) - index)
        bounds.append(min(max(round(seconds * frame_rate), bounds[-1] + 1), room_after))
    bounds.append(len(codes))
    return [
        ((" " if index else "") + " ".join(word for word, _, _ in group), codes[bounds[index] : bounds[index + 1]])
        for index, group in enumerate(groups)
    ]
