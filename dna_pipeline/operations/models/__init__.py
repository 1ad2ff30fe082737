"""Operations on the files of models: list, pull, verify, convert, export, import."""
