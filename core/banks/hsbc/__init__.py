"""HSBC: statements as MT910 in signed and encrypted files, dropped at our SFTP server and fetched from the bank's
(architecture.md §7, gaps.md B-20).

`read_file` opens a file and gives its entries, or why not; `lines` is what a collector is given. `sftp`, which fetches,
and `inbound`, where the bank drops, are imported by whoever opens real lines: AsyncSSH takes long to load.
"""

from core.banks.hsbc.entries import BANK, Opened, read_file
from core.banks.hsbc.lines import PARTIAL, Deliver, HsbcLines, Mailbox, Notice, RemoteFile, good_name

__all__ = ["BANK", "PARTIAL", "Deliver", "HsbcLines", "Mailbox", "Notice", "Opened", "RemoteFile", "good_name",
           "read_file"]
