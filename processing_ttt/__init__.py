"""Waveforms and text to and from token ids: the vocabulary, the layout, the codec and the processor of Text-to-Talk."""
