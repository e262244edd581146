"""
Text-to-Talk: the public names of `modeling_ttt` and `processing_ttt` in one place.

    from text_to_talk import TttTalker, nano_checkpoint

    talker = TttTalker.from_pretrained(nano_checkpoint())
    talker.reply(text="What is two plus three?").save("reply.wav")

Importing registers the model, the processor and the codec with transformers' Auto classes.
"""

from importlib.metadata import PackageNotFoundError, version

from modeling_ttt import (
    TttConfig,
    TttForConditionalGeneration,
    TttGenerateOutput,
    TttOutput,
    TttPreTrainedModel,
    audio_span_ids,
    convert_released_model,
    model_card,
    nano_checkpoint,
)
from processing_ttt import (
    CHAT_TEMPLATE,
    RELEASED_SYSTEM_PROMPTS,
    TASKS,
    AsyncTttStreamer,
    AudioInputError,
    AudioWriter,
    Glm4VoiceCodec,
    Glm4VoiceCodecConfig,
    Glm4VoiceDecoderModel,
    Glm4VoiceTokenizerModel,
    ParsedReply,
    TranscriptSegment,
    TttAudioChunk,
    TttBlockDraft,
    TttCodecConfig,
    TttCodecModel,
    TttCodecOutput,
    TttConversation,
    TttItem,
    TttItemConversation,
    TttLayout,
    TttProcessor,
    TttReply,
    TttStreamer,
    TttStreamEvent,
    TttTalker,
    TttTextDelta,
    TttTranscript,
    TttUsage,
    TttVocabulary,
    TttWordTime,
    Waveform,
    add_ttt_tokens,
    aligned_groups,
    codec_card,
    load_audio,
    split_at_pauses,
)

try:
    __version__ = version("text-to-talk")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "0+unknown"

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
    "TttConfig",
    "TttConversation",
    "TttForConditionalGeneration",
    "TttGenerateOutput",
    "TttItem",
    "TttItemConversation",
    "TttLayout",
    "TttOutput",
    "TttPreTrainedModel",
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
    "__version__",
    "add_ttt_tokens",
    "aligned_groups",
    "audio_span_ids",
    "codec_card",
    "convert_released_model",
    "load_audio",
    "model_card",
    "nano_checkpoint",
    "split_at_pauses",
]
