"""
The talker that strangers use: one model behind limits, a queue and streams.

Depends on the two model packages, and on `finetune` where there are adapters. Independent of Gradio and of HTTP.
"""

from .limits import Busy, Limits, RequestError, ServiceFault
from .request import DecodingOptions, PastTurn, TalkRequest
from .service import TalkService
from .streams import AsyncTalkStream, TalkEvent, TalkStream
from .summary import ReplyFigures, ReplySummary, Segment
from .turn import Turn
from .uploads import AudioFile, Upload

__all__ = [
    "AsyncTalkStream",
    "AudioFile",
    "Busy",
    "DecodingOptions",
    "Limits",
    "PastTurn",
    "ReplyFigures",
    "ReplySummary",
    "RequestError",
    "Segment",
    "ServiceFault",
    "TalkEvent",
    "TalkRequest",
    "TalkService",
    "TalkStream",
    "Turn",
    "Upload",
]
