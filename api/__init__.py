"""What people touch: the command line (and, later, the HTTP interface and the pages)."""
