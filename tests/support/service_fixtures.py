"""A service around the tiny talker, whose forwards a test can hold back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from streaming_fixtures import BLOCKS, TinyTalker, tiny_talker

from spaces_demo.service import AsyncTalkStream, Limits, TalkService

QUESTION = "What is seven plus five?"


class Gate:
    """Holds every forward of the backbone while it is shut, and counts those that came."""

    def __init__(self, talker: TinyTalker):
        self.forwards = 0
        self.shut_at: int | None = None  # shuts by itself when this many have begun
        self._open = threading.Event()
        self._open.set()
        self._came = threading.Condition()
        talker.model.model.register_forward_pre_hook(self._pass)

    def _pass(self, *_: object) -> None:
        with self._came:
            self.forwards += 1
            if self.forwards == self.shut_at:
                self._open.clear()
            self._came.notify_all()
        assert self._open.wait(30), "the gate was never opened"

    def wait_for(self, forwards: int) -> None:
        """Wait until that many forwards have begun."""
        with self._came:
            assert self._came.wait_for(lambda: self.forwards >= forwards, 30)

    @contextmanager
    def shut(self) -> Iterator[None]:
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def open(self) -> None:
        self._open.set()


def tiny_service(
    limits: Limits | None = None, max_new_tokens: int = 40, talker: TinyTalker | None = None, **kwargs: object
) -> TalkService:
    """A service whose random model talks for as long as it may."""
    talker = talker or tiny_talker()
    with torch.no_grad():  # begins a span every few words
        talker.model.lm_head.weight[talker.processor.vocabulary.begin_audio_token_id] *= 4
    for name, value in {**BLOCKS, "max_new_tokens": max_new_tokens}.items():
        setattr(talker.model.generation_config, name, value)
    service = TalkService(talker.model, talker.processor, limits, **kwargs)
    service.gate = Gate(talker)
    return service


def stop_event(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Give an event that is set when a stream of an event loop is stopped."""
    stopped, cancel = threading.Event(), AsyncTalkStream.cancel
    monkeypatch.setattr(AsyncTalkStream, "cancel", lambda stream: (cancel(stream), stopped.set()))
    return stopped
