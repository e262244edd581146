"""`serve run spaces_demo.serve:application`: the Ray Serve application of `http/serve.py` under a short name."""

from .http.serve import Settings, application

__all__ = ["Settings", "application"]
