"""Operations on the files of models: list, pull, verify, export, import."""
