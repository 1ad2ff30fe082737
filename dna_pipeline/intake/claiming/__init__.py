"""Claims: move or copy files of an inbox into folders of ours, and record them in the ledger."""
