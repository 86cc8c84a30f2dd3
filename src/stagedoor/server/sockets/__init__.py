"""The parts of the WebSocket: a connection, and what is said on it in each of the two dialects."""
