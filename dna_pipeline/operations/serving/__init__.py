"""What a server needs of the program beside the operations that commands use too."""
