"""Find the files of a watched folder, and which of them belong together.

    scan → stability → pairing → planning          watcher: says when to scan

The scan is the truth and events are hints. No module here knows the ledger.
"""
