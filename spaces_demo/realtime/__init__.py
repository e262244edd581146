"""`/v1/realtime`: spoken conversations over a WebSocket, in the form of OpenAI's Realtime protocol."""
