"""
A model with its processor, asked in batches, for validation and evaluation.

Depends on tasks, codes, texts and replies. Independent of metrics and data sets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from processing_ttt import TttProcessor, TttTalker
from processing_ttt.tasks_ttt import DEFAULT_LANGUAGE, system_prompt


@dataclass(frozen=True)
class Question:
    """
    A question to a model.

    Args:
        task (`str`): One of `processing_ttt.TASKS`.
        text (`str`, *optional*): The user's text.
        codes (`list[int]`, *optional*): The codes of the user's audio.
        language (`str`, *optional*): Tag of the language, for the prompt.
    """

    task: str
    text: str | None = None
    codes: list[int] | None = None
    language: str | None = None


@dataclass(frozen=True)
class Answer:
    """
    A model's reply.

    Args:
        text (`str`): The reply's text.
        codes (`list[int]`): The codes of its audio, for `processor.decode_codes`.
        finished (`bool`): Whether the model ended the reply itself.
    """

    text: str
    codes: list[int]
    finished: bool


@dataclass
class Checkpoint:
    """
    A loaded model and its processor.

    Args:
        model: A [`TttForConditionalGeneration`], or a `peft.PeftModel` around one.
        processor ([`TttProcessor`]): Its processor.
        batch_size (`int`): Questions answered together.
        default_language (`str`): Prompts in this language carry no tag.
        options (`dict`): For `generate`.
    """

    model: Any
    processor: TttProcessor
    batch_size: int = 16
    default_language: str = DEFAULT_LANGUAGE
    options: dict[str, Any] = field(default_factory=dict)

    def ask(self, questions: Sequence[Question], progress: Callable[[int], object] | None = None) -> list[Answer]:
        """
        Answer questions, in batches of similar length.

        Args:
            questions (`Sequence[Question]`): In any order.
            progress (`Callable`, *optional*): Called after each batch with its number of questions.

        Returns:
            `list[Answer]`: In the order of the questions.
        """
        prompts = [self.prompt(question) for question in questions]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        answers: dict[int, Answer] = {}
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            answers.update(zip(chosen, self._answer([prompts[i] for i in chosen]), strict=True))
            if progress is not None:
                progress(len(chosen))
        return [answers[i] for i in range(len(order))]

    def prompt(self, question: Question) -> list[int]:
        """Write the token ids of a question's prompt, as a training example begins."""
        processor = self.processor
        return processor.layout.build_prompt(
            processor.tokenizer,
            question.task,
            question.text,
            question.codes,
            system_prompt(question.task, question.language, processor.system_prompts, self.default_language),
        )

    @torch.no_grad()
    def _answer(self, prompts: list[list[int]]) -> list[Answer]:
        padded = self.processor.tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        inputs = {name: padded[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
        ids = TttTalker(self.model, self.processor, **self.options).reply_ids(inputs)
        replies = [self.processor.layout.parse_reply(sequence) for sequence in ids]
        return [Answer(self.processor.decode_text(each.text_ids), each.codes, each.finished) for each in replies]
