"""The emulated East West Bank: a book, and the files that people fetch from its portal."""
