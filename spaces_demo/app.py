"""
Ask in speech or text, and hear the answer: the smallest demo that is useful.

    python -m spaces_demo.app --model checkpoints/ttt-nano

Knows Gradio, a model and a processor. Turns, streaming and controls come with the full demo.
"""

import argparse
from typing import Any

import gradio as gr
import torch
from transformers import AutoModel, AutoProcessor, PreTrainedModel

from modeling_ttt import nano_checkpoint
from processing_ttt import TttProcessor

MAX_QUESTION_SECONDS = 30
MAX_FILE_SIZE = "10mb"
MAX_WAITING = 16


def build_demo(model: PreTrainedModel, processor: TttProcessor) -> gr.Blocks:
    """
    Build the app around a loaded model.

    Args:
        model (`TttForConditionalGeneration`): Answers.
        processor (`TttProcessor`): Its processor.

    Returns:
        `gr.Blocks`: Ready to `launch`.
    """

    def answer(question_path: str | None, question_text: str) -> tuple[str, tuple[int, Any] | None]:
        if not question_path and not question_text.strip():
            raise gr.Error("Record a question, upload one, or write one.")
        try:
            conversation = processor.conversation(
                "chat", text=None if question_path else question_text, audio=question_path
            )
            inputs = processor.apply_chat_template(
                conversation, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            )
        except ValueError as error:  # the sound is empty, silent, too long or broken: the message says which
            raise gr.Error(str(error)) from error
        with torch.inference_mode():
            ids = model.generate(**inputs.to(model.device))
        reply = processor.decode_reply(ids[0, inputs["input_ids"].shape[1] :])
        return reply.text, (reply.sampling_rate, reply.audio) if len(reply.audio) else None

    with gr.Blocks(title="Text-to-Talk") as demo:
        gr.Markdown(
            "# Text-to-Talk\nOne Transformer that writes text token by token and speaks by denoising blocks of audio tokens."
        )
        with gr.Row():
            with gr.Column():
                sound = gr.Audio(sources=["microphone", "upload"], type="filepath", label="Your question")
                text = gr.Textbox(label="… or in writing", placeholder="What is seven plus five?", max_length=500)
                ask = gr.Button("Ask", variant="primary")
            with gr.Column():
                said = gr.Textbox(label="Answer")
                heard = gr.Audio(label="Spoken answer", autoplay=True)
        gr.on([ask.click, text.submit], answer, [sound, text], [said, heard], api_name="talk", concurrency_limit=1)
    return demo.queue(max_size=MAX_WAITING)


def main() -> None:
    """Serve the demo on this machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="folder or Hub id; the nano checkpoint in the box by default")
    parser.add_argument("--port", type=int, default=7860)
    options = parser.parse_args()
    source = options.model or str(nano_checkpoint())
    model = AutoModel.from_pretrained(source).to("cuda" if torch.cuda.is_available() else "cpu").eval()
    processor = AutoProcessor.from_pretrained(source, max_audio_seconds=MAX_QUESTION_SECONDS)
    build_demo(model, processor).launch(server_port=options.port, max_file_size=MAX_FILE_SIZE)


if __name__ == "__main__":
    main()
