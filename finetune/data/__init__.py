"""From recordings and texts to a prepared dataset of audio codes."""
