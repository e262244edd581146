"""
The layout of a Text-to-Talk sequence: prompts, the interleaving of a reply's text and audio, and the way back.

Knows token ids, codec codes and the tasks of `tasks_ttt`. Knows no waveform, no file and no model. A training example
(`TttLayout.build_example`) and an inference prompt (the processor's `apply_chat_template`) come from the same
template and are equal id for id.

A reply is made of pieces, each some text followed by some audio (method of the paper, section 3.1):

    text <|begin_of_audio|> codes <|end_of_audio_new|>  text <|begin_of_audio|> codes <|end_of_audio_new|>  ...
    text <|begin_of_quad|> codes <|end_of_audio_span_last|> <|im_end|>

One rule says which markers a span has: the span that holds the reply's last code is the last span; all others are
ordinary.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

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

IGNORE_INDEX = -100  # the label where nothing is learnt, as everywhere in transformers


@dataclass(frozen=True)
class AudioSpan:
    """
    One audio span of a parsed reply.

    Args:
        codes (`list[int]`): Codec codes.
        text_end (`int`): How many of the reply's text ids stand before the span.
        is_last (`bool`): Whether `<|begin_of_quad|>` opened it.
        closed (`bool`): Whether an end marker closed it; if not, it is unfinished or damaged.
    """

    codes: list[int]
    text_end: int
    is_last: bool
    closed: bool


@dataclass(frozen=True)
class ParsedReply:
    """
    A reply taken apart.

    Args:
        text_ids (`list[int]`): The ids of all stretches of text, joined: a character may be split between two
            stretches.
        codes (`list[int]`): The codes of all spans, joined.
        spans (`list[AudioSpan]`): The spans, in order.
        finished (`bool`): Whether `<|im_end|>` ended the reply.
        num_dropped (`int`): Number of ids that have no place in a reply (masks left over, stray markers, ids outside
            the vocabulary).
    """

    text_ids: list[int]
    codes: list[int]
    spans: list[AudioSpan]
    finished: bool
    num_dropped: int


@dataclass(frozen=True)
class TttLayout:
    """
    Builds prompts, replies and training examples as ids, and takes replies apart.

    Args:
        vocabulary (`TttVocabulary`): The ids of markers and codes.
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
        """Write a user's sound: `<|begin_of_audio|>` codes `<|end_of_audio|>`."""
        vocabulary = self.vocabulary
        return [vocabulary.begin_audio_token_id, *vocabulary.codes_to_ids(codes), vocabulary.end_user_audio_token_id]

    def fill_audio(self, ids: Sequence[int], sounds: Sequence[Iterable[int]]) -> list[int]:
        """
        Replace each `<|audio|>` placeholder of a tokenized prompt by its sound.

        Args:
            ids (`Sequence[int]`): A tokenized prompt.
            sounds (sequence of codes): The codes of each sound, in order.

        Returns:
            `list[int]`: The prompt with `<|begin_of_audio|>` codes `<|end_of_audio|>` in place of each placeholder.

        Raises:
            ValueError: If there are not as many placeholders as sounds.
        """
        placeholder = self.vocabulary.audio_token_start_id
        count = sum(token_id == placeholder for token_id in ids)
        if count != len(sounds):
            raise ValueError(
                f"The prompt has {count} {AUDIO_PLACEHOLDER} placeholders, but {len(sounds)} sounds came: give one "
                "sound for each."
            )
        remaining = iter(sounds)
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
            codes (iterable of `int`, *optional*): The codes of the user's sound.
            system_prompt (`str`, *optional*): Instead of the task's own.
            template (`str`, *optional*): The chat template.

        Returns:
            `list[int]`: Prompt ids.
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
        Interleave a reply: `text_tokens` ids of text, `audio_tokens` codes, and so on (13 and 26 in the paper).

        The text decides: after its last id all remaining codes follow in the last span, of whatever length. If the
        codes run out first, the span that takes the last of them is the last span, and the rest of the text follows
        it in one stretch. Without codes a reply is its text, without text it is one last span. The end of the reply,
        `<|im_end|>`, is the caller's.

        Args:
            text_ids (`Sequence[int]`): Text ids, without markers.
            codes (`Sequence[int]`): Codec codes.

        Returns:
            `list[int]`: Ids of the reply.

        Raises:
            ValueError: If a text id is a marker or an audio id, or a code is not in the codebook.
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
            `list[int]`: Ids of the reply, without `<|im_end|>`.

        Raises:
            ValueError: If a text id is a marker or an audio id, or a code is not in the codebook.
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
        Take a reply apart, finished or not. Damaged input never fails: what has no place in a reply is dropped and
        counted.

        Codes without a begin marker are kept as a span; a begin marker or a text id ends a span that was not closed;
        padding is passed over; `<|im_end|>` ends the reply.

        Args:
            ids (iterable of `int`, 1-D tensor or array): Ids after the prompt.

        Returns:
            `ParsedReply`: Text ids, codes, spans, and what was wrong.
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
            codes (iterable of `int`, *optional*): The codes of the user's sound.
            reply_text (`str`, *optional*): The reply's text.
            reply_codes (`Sequence[int]`, *optional*): The codes of its sound, interleaved in this layout's pattern.
            reply_groups (sequence of `(str, codes)`, *optional*): Instead of both: groups of words with their own
            audio, from `aligned_groups`.
            system_prompt (`str`, *optional*): Instead of the task's own.

        Returns:
            `dict`: `input_ids` and `labels` (-100 on the prompt), lists of `int` of equal length.

        Raises:
            ValueError: If the reply is given twice or not at all, or has audio where the task has none (or the other
            way round).
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
                raise ValueError(f"Id {token_id} is not text: a reply's text holds no markers and no audio.")
        return text_ids


class ReplyParser:
    """
    Takes a reply apart as it comes, by the rules of `TttLayout.parse_reply`; the state is the span that is open, if
    any.

    Args:
        vocabulary (`TttVocabulary`): The ids of markers and codes.
    """

    def __init__(self, vocabulary: TttVocabulary):
        self.vocabulary = vocabulary
        self.text_ids: list[int] = []
        self.codes: list[int] = []
        self.spans: list[AudioSpan] = []
        self.open_codes: list[int] | None = None
        self.open_is_last = False
        self.finished = False
        self.num_dropped = 0

    def push(self, ids: Iterable[int]) -> None:
        """Take the next ids; what follows the end of the reply is passed over."""
        for token_id in map(int, ids):
            self.finished = self.finished or token_id == self.vocabulary.eos_token_id
            if self.finished:
                break
            self._take(token_id)

    def finish(self) -> ParsedReply:
        """Give the reply as far as it came."""
        self._end_span(closed=False)
        return ParsedReply(self.text_ids, self.codes, self.spans, self.finished, self.num_dropped)

    def _take(self, token_id: int) -> None:
        vocabulary = self.vocabulary
        if vocabulary.is_code(token_id):
            if self.open_codes is None:
                self.open_codes, self.open_is_last = [], False
            self.open_codes.append(token_id - vocabulary.audio_code_offset)
            self.codes.append(self.open_codes[-1])
        elif token_id in (vocabulary.begin_audio_token_id, vocabulary.begin_last_audio_token_id):
            self._begin_span(is_last=token_id == vocabulary.begin_last_audio_token_id)
        elif self.open_codes is not None and token_id in (
            vocabulary.end_audio_token_id,
            vocabulary.end_last_audio_token_id,
        ):
            self._end_span(closed=True)
        elif token_id == vocabulary.pad_token_id:
            pass
        elif self._is_text(token_id):
            self._end_span(closed=False)
            self.text_ids.append(token_id)
        else:
            self.num_dropped += 1

    def _is_text(self, token_id: int) -> bool:
        markers = (self.vocabulary.end_user_audio_token_id, self.vocabulary.begin_message_token_id)
        return 0 <= token_id < self.vocabulary.audio_token_start_id and token_id not in markers

    def _begin_span(self, is_last: bool) -> None:
        self._end_span(closed=False)
        self.open_codes, self.open_is_last = [], is_last

    def _end_span(self, closed: bool) -> None:
        if self.open_codes is not None:
            self.spans.append(AudioSpan(self.open_codes, len(self.text_ids), self.open_is_last, closed))
        self.open_codes = None


def aligned_groups(
    words: Sequence[tuple[str, float, float]], codes: Sequence[int], frame_rate: float, words_per_group: int = 2
) -> list[tuple[str, list[int]]]:
    """
    Cut an utterance into groups of words, each with exactly its own codes.

    A cut lies half-way between the end of a group's last word and the start of the next group's first word, rounded
    to a frame; the silence before the first word and after the last one stays with them. No code is lost, and each
    group has at least one.

    Args:
        words (sequence of `(word, start, end)`): The words in order, with times in seconds.
        codes (`Sequence[int]`): The codes of the whole utterance.
        frame_rate (`float`): Codes per second.
        words_per_group (`int`, defaults to 2): Words per group; the last group may have fewer.

    Returns:
        `list[tuple[str, list[int]]]`: Text and codes of each group. The texts joined are the words joined by spaces:
        every group but the first begins with a space.

    Raises:
        ValueError: If there are no words or fewer codes than groups.
    """
    if words_per_group < 1:
        raise ValueError(f"`words_per_group` must be at least 1, but is {words_per_group}.")
    groups = [words[start : start + words_per_group] for start in range(0, len(words), words_per_group)]
    if not groups or len(codes) < len(groups):
        raise ValueError(
            f"{len(codes)} codes cannot be shared by {len(groups)} groups of words: each group needs a word and a code."
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
