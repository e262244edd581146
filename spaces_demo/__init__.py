"""The Gradio demo: ask nano, or any Text-to-Talk checkpoint, in speech or text, and get speech and text back."""
