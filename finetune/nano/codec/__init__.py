"""Train nano's speech codec, and encode speech with it."""
