"""Speech for nano by natural voices: the synthesiser, its speakers, and what they say."""
