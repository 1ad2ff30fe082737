"""The operations of the program. They return data and print nothing."""
