"""The emulated ICBC: one book, two lines that tell of it, each at its own pace."""
