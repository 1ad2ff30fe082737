"""The part of the program that a server needs beside the operations that commands use too."""
