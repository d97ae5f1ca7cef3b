"""The emulated CGB, SCB and Citi as far as FPS credits go: one book each, and what each tells of it."""
