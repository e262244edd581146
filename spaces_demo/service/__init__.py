"""
The talker that strangers use: one model behind limits, a queue and streams.

Depends on the two model packages, and on `finetune` where there are adapters. Independent of Gradio and of HTTP.
"""

from .limits import Busy, DemoError, Limits
from .request import DecodingOptions, TalkRequest
from .service import TalkService
from .streams import AsyncTalkStream, TalkEvent, TalkStream
from .summary import ReplySummary, Stretch
from .uploads import SoundFile

__all__ = [
    "AsyncTalkStream",
    "Busy",
    "DecodingOptions",
    "DemoError",
    "Limits",
    "ReplySummary",
    "SoundFile",
    "Stretch",
    "TalkEvent",
    "TalkRequest",
    "TalkService",
    "TalkStream",
]
