"""The process that owns the device and runs stages; started by its name, imported by nobody."""
