"""The emulated BOCHK: B2E interface over HTTP, S16 reports over FTP."""
