"""Ask models in batches, and measure their transcripts, speech and answers."""
