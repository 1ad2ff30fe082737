"""What a worker does about too little memory, and about a device that it cannot trust."""

from dna_pipeline.executor import JobDone, JobFailed, StageDone
from tests.integration.acting import Bench


def test_where_memory_runs_out_the_stage_runs_again_with_less(bench: Bench):
    events = bench.run("squeeze", room=1)
    assert events[-1] == JobDone("j")
    (done,) = [event for event in events if isinstance(event, StageDone)]
    assert len(done.warnings) == 2
    assert "Memory ran out" in done.warnings[0]
    assert "try number 2" in done.warnings[0]
    assert done.warnings[1] == "thrift 1"


def test_where_it_runs_out_again_the_job_fails(bench: Bench):
    failed = bench.run("squeeze", room=2)[-1]
    assert isinstance(failed, JobFailed)
    assert failed.failure["code"] == "out_of_memory"
    assert "at thrift 1" in failed.failure["detail"]
