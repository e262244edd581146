"""The service for programs: OpenAI's routes, Gradio's endpoints, one server, and replicas on Ray."""
