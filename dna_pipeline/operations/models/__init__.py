"""Operations on the files of models: list, pull, discard, verify, convert, export, import."""
