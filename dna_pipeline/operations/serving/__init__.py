"""Operations of a server, beside those that commands use too."""
