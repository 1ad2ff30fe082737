"""Contact sheets: a page, and one picture, of many results."""
