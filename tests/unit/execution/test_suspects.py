"""Which jobs run alone after a worker ended with several."""

from dna_pipeline.execution.suspects import Suspects


def listed(suspects: Suspects, names: str) -> str:
    return "".join(name for name in names if name in suspects)


def test_all_that_were_together_run_alone_until_each_has_ended():
    suspects = Suspects()
    suspects.add(["a", "b", "c"])
    assert listed(suspects, "abcd") == "abc"
    suspects.clear("b")
    assert listed(suspects, "abcd") == "ac"


def test_the_one_that_ends_a_worker_alone_frees_the_others():
    suspects = Suspects()
    suspects.add(["a", "b"])
    suspects.add(["c", "d"])
    suspects.convict("b")
    assert listed(suspects, "abcd") == "bcd"
    suspects.clear("b")
    assert listed(suspects, "abcd") == "cd"


def test_a_job_that_was_alone_from_the_start_runs_alone_again():
    suspects = Suspects()
    suspects.convict("a")
    assert listed(suspects, "ab") == "a"
