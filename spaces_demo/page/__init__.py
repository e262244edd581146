"""The service for people: the page, in Gradio, and what it shows of a reply."""
