"""Pipecat's service for OpenAI Realtime, unchanged, in a pipeline of its own, against a server process with nano."""

import asyncio

import numpy as np
import pytest
from realtime_fixtures import RATE, silence
from realtime_server import answer, recording, server

realtime = pytest.importorskip(
    "pipecat.services.openai.realtime.llm", reason='needs `pip install "pipecat-ai[openai]"`'
)
pytest.importorskip("gradio", reason="the demo extra is not installed")
pytestmark = pytest.mark.slow
QUESTION = [{"role": "user", "content": "What is two plus two?"}]


class Bot:
    """A bot of one service, and the frames that the service gave."""

    def __init__(self, url, turn_detection, messages):
        from pipecat.pipeline.pipeline import Pipeline
        from pipecat.pipeline.worker import PipelineWorker
        from pipecat.processors.aggregators.llm_context import LLMContext
        from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
        from pipecat.services.openai.realtime import events

        listening = events.AudioInput(transcription=events.InputAudioTranscription(), turn_detection=turn_detection)
        session = events.SessionProperties(audio=events.AudioConfiguration(input=listening))
        settings = realtime.OpenAIRealtimeLLMService.Settings(model="ttt", session_properties=session)
        address = url.replace("http", "ws") + "/realtime"
        self.service = realtime.OpenAIRealtimeLLMService(api_key="none", base_url=address, settings=settings)
        user, assistant = LLMContextAggregatorPair(LLMContext(messages))
        self.worker = PipelineWorker(Pipeline([user, self.service, assistant]), observers=[self._observer()])
        self.frames = []
        self.replies = []  # names of messages
        self._came = asyncio.Condition()
        self.service.add_event_handler("on_conversation_item_created", self._on_item)

    def _observer(self):
        from pipecat.observers.base_observer import BaseObserver

        class Frames(BaseObserver):
            async def on_push_frame(_, data):
                if data.source is self.service:
                    async with self._came:
                        self.frames.append(data.frame)
                        self._came.notify_all()

        return Frames()

    async def _on_item(self, service, item_id, item):
        if item.role == "assistant":
            self.replies.append(item_id)

    def of(self, kind, since=0):
        return [frame for frame in self.frames[since:] if type(frame).__name__ == kind]

    async def until(self, kind, count=1):
        async with self._came:
            came = self._came.wait_for(lambda: self.of("ErrorFrame") or len(self.of(kind)) >= count)
            await asyncio.wait_for(came, 60)
        assert not self.of("ErrorFrame")

    def text_since(self, index):
        return "".join(frame.text for frame in self.of("TTSTextFrame", index))

    async def speak(self, samples):
        from pipecat.frames.frames import InputAudioRawFrame

        for start in range(0, len(samples), RATE // 10):
            piece = samples[start : start + RATE // 10].tobytes()
            await self.worker.queue_frame(InputAudioRawFrame(audio=piece, sample_rate=RATE, num_channels=1))
            await asyncio.sleep(len(piece) / 2 / RATE)


def run(turn_detection, talk, messages=QUESTION):
    async def with_bot(url):
        from pipecat.workers.runner import WorkerRunner

        bot = Bot(url, turn_detection, messages)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(bot.worker)
        running = asyncio.create_task(runner.run())
        try:
            await bot.until("LLMServiceMetadataFrame")
            await talk(bot)
        finally:
            await bot.worker.cancel()
            await running

    with server() as url:
        asyncio.run(asyncio.wait_for(with_bot(url), 200))


def test_pipecat_has_a_conversation_and_interrupts():
    async def talk(bot):
        from pipecat.frames.frames import LLMRunFrame

        await bot.worker.queue_frame(LLMRunFrame())
        await bot.until("TTSStoppedFrame")
        assert "four" in bot.text_since(0).lower()
        index = len(bot.frames)
        await bot.speak(np.concatenate([recording("1.wav"), silence(1)]))
        await bot.until("TranscriptionFrame")
        assert "ten" in bot.text_since(index).lower()
        assert bot.of("TranscriptionFrame")[0].text.lower().startswith("what is seven")
        audio = b"".join(frame.audio for frame in bot.of("TTSAudioRawFrame", index))
        assert len(audio) / 2 / RATE > 0.5

        index = len(bot.frames)
        await bot.speak(np.concatenate([recording("10.wav"), silence(0.8)]))
        await bot.until("TTSAudioRawFrame", len(bot.of("TTSAudioRawFrame")) + 1)
        await bot.speak(recording("6.wav"))
        await bot.until("InterruptionFrame", 3)  # each of the turns began with one
        cancelled, index = bot.text_since(index), len(bot.frames)
        await bot.speak(silence(1))
        await bot.until("TranscriptionFrame", 3)
        assert "vienna" in bot.text_since(index).lower()
        left = (await bot.service.retrieve_conversation_item(bot.replies[2])).content[0].transcript
        assert cancelled.startswith(left) and len(left) < len(answer("10.wav"))

    from pipecat.services.openai.realtime.events import TurnDetection

    run(TurnDetection(), talk)


def test_pipecat_ends_turns_by_itself():
    async def talk(bot):
        from pipecat.frames.frames import InterruptionFrame, UserStartedSpeakingFrame, UserStoppedSpeakingFrame

        for number, (name, word) in enumerate([("1.wav", "ten"), ("6.wav", "vienna")], 1):
            index = len(bot.frames)
            await bot.worker.queue_frame(UserStartedSpeakingFrame())
            await bot.worker.queue_frame(InterruptionFrame())  # which clears the buffer and cancels
            await bot.speak(recording(name))
            await bot.worker.queue_frame(UserStoppedSpeakingFrame())
            await bot.until("TranscriptionFrame", number)
            assert word in bot.text_since(index).lower()

    run(False, talk)


def test_a_saved_conversation_of_any_length_is_gone_on_with():
    async def talk(bot):
        from pipecat.frames.frames import LLMRunFrame

        await bot.worker.queue_frame(LLMRunFrame())  # which writes all messages as one text
        await bot.until("LLMFullResponseEndFrame")
        await bot.speak(np.concatenate([recording("1.wav"), silence(1)]))
        await bot.until("TranscriptionFrame")
        await bot.until("LLMFullResponseEndFrame", 2)
        assert len(bot.replies) == 2

    from pipecat.services.openai.realtime.events import TurnDetection

    saved = [*QUESTION, {"role": "assistant", "content": "Two plus two is four."}] * 20
    run(TurnDetection(), talk, [*saved, *QUESTION])
