"""Turn candidates of an inbox into plans: the jobs that their files ask for."""
