"""Submission of images by command, without an inbox."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dna_pipeline.base.errors import ConfigError, JobError
from dna_pipeline.base.files import copy_file, remove_tree, sha256_file, write_atomic, write_bytes
from dna_pipeline.base.naming import sidecar_name
from dna_pipeline.config import yaml12
from dna_pipeline.config.batch import BATCH_KEYS
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.misplaced_keys import known_stages, stages_of
from dna_pipeline.config.parameters import takes_text
from dna_pipeline.config.schema import SUBMIT_INBOX, Config, Inbox, Pipeline
from dna_pipeline.config.sidecar import JobSpec, resolve
from dna_pipeline.config.yaml12 import Document, is_mapping
from dna_pipeline.intake.claiming.claims import sync_claims
from dna_pipeline.intake.claiming.single import copy_claim_dir
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.ledger import drops
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.lookup import explain, open_ledger


def document_from_options(
    pipeline: str | None, settings: list[str], pipelines: Mapping[str, Pipeline] | None = None
) -> Document:
    """Build the sidecar document that `--pipeline P --set stage.param=V …` stands for.

    The shell has removed the quotes around a value. So if the parameter takes text, the value is
    used as it is: a `#` in it does not begin a comment, and digits stay text.

    Args:
        pipelines: pipelines whose stages may be named by id.

    Raises:
        ConfigError: a setting is malformed or is one for job files, or two settings contradict
            each other.
    """
    value: dict[str, Any] = {} if pipeline is None else {"pipeline": pipeline}
    stages = known_stages() | stages_of((pipelines or {}).values())
    for setting in settings:
        key, equals, text = setting.partition("=")
        stage, dot, parameter = key.strip().partition(".")
        if not equals or not stage or (dot and not parameter):
            raise ConfigError(f"--set {setting!r}: should read stage.parameter=value")
        if stage in BATCH_KEYS:
            text = f"{stage} is for a job file, which says which jobs there are"
            raise ConfigError(f"--set {setting!r}: {text}; `submit` makes one job of each image")
        is_text = takes_text([stages[stage]] if stage in stages else [], parameter)
        setting_value = text if is_text else _set_value(setting, text, is_plain=stage == "meta")
        inner = value.setdefault(stage, {}) if dot else value
        if not is_mapping(inner):
            raise ConfigError(f"--set {setting!r}: {stage} is set as a whole, too; keep one")
        inner[parameter if dot else stage] = setting_value
    return Document(value, {(): 0}, "--set")


def _set_value(setting: str, text: str, *, is_plain: bool) -> Any:
    """Parse a list or a mapping in brackets, or a single value; with `is_plain` always the latter.

    Raises ConfigError.
    """
    try:
        if text.lstrip()[:1] in ("[", "{") and not is_plain:
            return yaml12.loads(text.encode()).value
        return yaml12.scalar(text if is_plain else text.strip())
    except yaml12.YamlError as error:
        raise ConfigError(f"--set {setting!r}: {error.problem}") from None


@dataclass(frozen=True, slots=True)
class Submission:
    """An image to submit: a file, or a stream, with the name that its copy gets."""

    name: str
    source: Path | IO[bytes]


@contextmanager
def claiming(ledger: Ledger, row: dict[str, Any]) -> Generator[None]:
    """Guard the block in which a command fills a drop's claim.

    The drop is committed as *claiming* before its folder exists, since a daemon that starts
    meanwhile would remove a folder that the ledger does not know. An error removes drop and folder.
    """
    # The drop belongs to SUBMIT_INBOX for now: a daemon that starts finishes or rolls back the
    # unfinished claims of its inboxes, and must not touch this one.
    ledger.transact(lambda s: drops.begin_claims(s, [row | {"inbox": SUBMIT_INBOX}]))
    try:
        yield
    except BaseException:
        # If the drop is no longer *claiming*, its job was committed before the interruption, and
        # needs the folder.
        if ledger.transact(lambda s: drops.forget_drops(s, [row["id"]])):
            remove_tree(row["claim"], ignore_errors=True)
        raise


class Submitter:
    """Copies images into the data folder and queues them there."""

    def __init__(self, config: Config, ledger: Ledger, document: Document) -> None:
        self._config = config
        self._ledger = ledger
        self._document = document
        inbox = config.inbox(SUBMIT_INBOX)
        assert inbox is not None
        self._inbox: Inbox = inbox
        self._resolve(None)

    def _resolve(self, context: JobContext | None) -> JobSpec:
        try:
            return resolve(self._config, self._inbox, self._document, job_rows.draw_seed, context)
        except JobError as error:
            raise ConfigError(f"{error.detail} ({error.code})") from None

    def submit(self, submission: Submission, prober: Prober) -> str:
        """Queue one image and give its job's id. Raises ConfigError if it is no usable image."""
        row = job_rows.drop_row(
            self._inbox, "", Path(submission.name).name, self._sidecar(submission)
        )
        folder = copy_claim_dir(self._config, row["id"])
        row["claim"] = str(folder)
        with claiming(self._ledger, row):
            path = self._fetch(submission, folder)
            return self._queue(row, path, prober)

    def _sidecar(self, submission: Submission) -> str | None:
        """Name of the YAML in which the command's settings are kept, for people to read and correct
        before a retry; None if there are no settings."""
        return sidecar_name(Path(submission.name).name) if self._document.value else None

    def _fetch(self, submission: Submission, folder: Path) -> Path:
        folder.mkdir(parents=True)
        path = folder / Path(submission.name).name
        if isinstance(submission.source, Path):
            copy_file(submission.source, path)
        else:
            stream = submission.source
            write_atomic(path, lambda file: shutil.copyfileobj(stream, file))
        if (sidecar := self._sidecar(submission)) is not None:
            write_bytes(folder / sidecar, self._sidecar_bytes())
        sync_claims([folder], ())
        return path

    def _sidecar_bytes(self) -> bytes:
        return yaml12.dumps(self._document.value, indent=2).encode()

    def _queue(self, row: Mapping[str, Any], path: Path, prober: Prober) -> str:
        answer = prober.probe(path)
        if isinstance(answer, JobError):
            raise ConfigError(f"{path.name}: {answer.sentence} {answer.detail} ({answer.code})")
        drop_values: dict[str, Any] = {
            "id": row["id"], "sha256": sha256_file(path), "bytes": path.stat().st_size,
            "width": answer.width, "height": answer.height,
            "sidecar_text": self._sidecar_bytes().decode() if row["sidecar"] else None,
        }  # fmt: skip
        context = job_rows.context_of(self._inbox, "", path.name, drop_values["sha256"])
        job = job_rows.job_row(self._inbox, "", path.name, row["id"], self._resolve(context))
        self._ledger.transact(lambda s: drops.finish_claims(s, [drop_values], [job]))
        return job["id"]


def submit_all(
    config: Config,
    submissions: Iterable[tuple[str, Submission]],
    pipeline: str | None,
    settings: list[str],
) -> tuple[list[str], list[str]]:
    """Queue images, each with the same settings.

    Args:
        submissions: each with the name that people typed for it.
        pipeline: name of the pipeline; None: the first one.
        settings: as `stage.parameter=value`.

    Returns:
        The ids of the jobs, and a sentence for each image that could not be queued.

    Raises:
        ConfigError: a setting is wrong; no image was queued.
    """
    document = document_from_options(pipeline, settings, config.pipelines)
    jobs: list[str] = []
    problems: list[str] = []
    with closing(open_ledger(config)) as ledger, closing(Prober()) as prober:
        submitter = Submitter(config, ledger, document)
        for name, submission in submissions:
            try:
                jobs.append(submitter.submit(submission, prober))
            except (ConfigError, OSError) as error:
                problems.append(explain(name, error))
    return jobs, problems
