"""The emulated direct-debit interfaces of HSBC and Hang Seng."""
