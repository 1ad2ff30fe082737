"""What lies in a watched folder, and which of its files belong together.

    scan → stability → pairing → planning          watcher: says when to scan

The scan is the truth and events are hints. Nothing here knows the ledger.
"""
