"""Broadcasts on disk: the noun (broadcasts), its ledger with one row a contact (ledger), what became of the copies (tally), and the figures (counts)."""
