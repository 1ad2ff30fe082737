"""Workers on the machines of a Ray cluster: the process that speaks to Ray, and its actors."""
