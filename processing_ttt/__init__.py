"""
Audio and text to and from token ids: vocabulary, layout, codec and processor of Text-to-Talk.

Importing registers `TttProcessor` with `AutoProcessor`, and the codec with `AutoConfig`, `AutoModel` and
`AutoModelForAudioTokenization`. The codec of GLM-4-Voice is imported when one of its names is first used.
"""

import importlib
from typing import Any

from transformers import AutoProcessor

from .audio_input_ttt import AudioInputError, Waveform, load_audio
from .audio_output_ttt import AudioWriter
from .codec_ttt import TttCodecConfig, TttCodecModel, TttCodecOutput
from .conversation_ttt import TttConversation
from .hub_ttt import codec_card
from .item_conversation_ttt import TttItem, TttItemConversation, TttUsage
from .layout_ttt import ParsedReply, TttLayout, aligned_groups
from .processing_ttt import TttProcessor
from .reply_stream_ttt import TttAudioChunk, TttBlockDraft, TttStreamEvent, TttTextDelta
from .reply_ttt import TttReply, TttWordTime
from .streaming_ttt import AsyncTttStreamer, TttStreamer
from .talker_ttt import TttTalker
from .tasks_ttt import CHAT_TEMPLATE, RELEASED_SYSTEM_PROMPTS, TASKS
from .transcript_ttt import TranscriptSegment, TttTranscript, split_at_pauses
from .vocabulary_ttt import TttVocabulary, add_ttt_tokens

# A saved processor names its class in processor_config.json, and AutoProcessor finds it among the registered ones by
# that name; the model's configuration, which belongs to the other package, is not needed.
AutoProcessor.register("ttt", TttProcessor, exist_ok=True)

_ON_FIRST_USE = {
    "Glm4VoiceCodec": ".glm4_voice_codec",
    "Glm4VoiceCodecConfig": ".glm4_voice_configuration",
    "Glm4VoiceDecoderModel": ".glm4_voice_decoder",
    "Glm4VoiceTokenizerModel": ".glm4_voice_tokenizer",
}


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(importlib.import_module(_ON_FIRST_USE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "CHAT_TEMPLATE",
    "RELEASED_SYSTEM_PROMPTS",
    "TASKS",
    "AsyncTttStreamer",
    "AudioInputError",
    "AudioWriter",
    "Glm4VoiceCodec",
    "Glm4VoiceCodecConfig",
    "Glm4VoiceDecoderModel",
    "Glm4VoiceTokenizerModel",
    "ParsedReply",
    "TranscriptSegment",
    "TttAudioChunk",
    "TttBlockDraft",
    "TttCodecConfig",
    "TttCodecModel",
    "TttCodecOutput",
    "TttConversation",
    "TttItem",
    "TttItemConversation",
    "TttLayout",
    "TttProcessor",
    "TttReply",
    "TttStreamEvent",
    "TttStreamer",
    "TttTalker",
    "TttTextDelta",
    "TttTranscript",
    "TttUsage",
    "TttVocabulary",
    "TttWordTime",
    "Waveform",
    "add_ttt_tokens",
    "aligned_groups",
    "codec_card",
    "load_audio",
    "split_at_pauses",
]
