"""Fuzzing of the socket codec: `properties` says what must hold, ``python -m tests.fuzz`` searches with atheris."""
