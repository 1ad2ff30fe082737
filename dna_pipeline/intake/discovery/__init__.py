"""The way in: what lies in a watched folder, what belongs together, and how it is taken in.

    scan → stability → pairing → claim          watcher: says when to scan

The scan is the truth and events are hints. Nothing here knows the ledger; the daemon commits
between the steps of `claim`.
"""
