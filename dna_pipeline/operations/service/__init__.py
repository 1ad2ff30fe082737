"""Starts the daemon with the machine: systemd, launchd, Windows' Task Scheduler."""
