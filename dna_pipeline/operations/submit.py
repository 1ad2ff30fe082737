"""Submission of images by command, without an inbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from dna_pipeline.base.errors import ConfigError, JobError
from dna_pipeline.base.naming import sidecar_name
from dna_pipeline.config import yaml12
from dna_pipeline.config.batch import BATCH_KEYS
from dna_pipeline.config.columns import steps_to
from dna_pipeline.config.misplaced_keys import known_stages, stages_of
from dna_pipeline.config.parameters import takes_text
from dna_pipeline.config.schema import SUBMIT_INBOX, Config, Pipeline
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.config.yaml12 import Document, is_mapping
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.claim import Claim, InputFile
from dna_pipeline.intake.claiming.claimer import Claimer, hash_files, read_sidecar
from dna_pipeline.intake.claiming.companions import copy_into, find_lacking, require_decodable
from dna_pipeline.intake.claiming.recorder import Recorder, image_entry
from dna_pipeline.intake.discovery.mask_names import names_of_masks
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.intake.planning.companion_files import CompanionFiles
from dna_pipeline.intake.planning.plan import Plan
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.lookup import explain, open_ledger

_MASK_IN_FILE = "img2img.mask=file"
"""The setting that `--mask FILE` stands for. A later setting of the same parameter counts more."""


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
        *outer, last = steps_to(key.strip())
        inner: Any = value
        for name in outer:
            inner = inner.setdefault(name, {})
            if not is_mapping(inner):
                raise ConfigError(f"--set {setting!r}: {name} is set as a whole, too; keep one")
        inner[last] = setting_value
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
    """An image to submit: a file, or a stream, with the name that its copy gets.

    Attributes:
        mask: the file of its mask; None for the one that lies beside it, if a stage needs one.
    """

    name: str
    source: Path | IO[bytes]
    mask: Path | None = None


class Submitter:
    """Copies images into the data folder and queues them there."""

    def __init__(self, config: Config, ledger: Ledger, document: Document) -> None:
        self._config = config
        self._document = document
        inbox = config.inbox(SUBMIT_INBOX)
        assert inbox is not None
        self._planner = Planner(config, inbox)
        self._claimer = Claimer(config, inbox, ledger)
        self._recorder = Recorder(config, inbox, ledger)
        self._inbox = inbox
        self._needs_mask = ("mask", "") in _spec(self._plan("", None)).needed_companions

    def _plan(self, name: str, sha256: str | None, file: Path | None = None) -> Plan:
        try:
            return self._planner.plan_image("", name, self._document, sha256, file=file)
        except JobError as error:
            raise ConfigError(f"{error.detail} ({error.code})") from None

    def submit(self, submission: Submission, prober: Prober) -> str:
        """Queue one image and give its job's id. Raises ConfigError if it is no usable image."""
        name = Path(submission.name).name
        files = [InputFile("image", name, submission.source)]
        if self._document.value:
            # People read and correct the command's settings there before a retry.
            sidecar = yaml12.dumps(self._document.value, indent=2).encode()
            files.insert(0, InputFile("sidecar", sidecar_name(name), BytesIO(sidecar)))
        if self._needs_mask:
            files.insert(-1, _mask_file(name, submission))
        claim = self._claimer.plan("", files)
        with self._claimer.claiming(claim):
            self._claimer.fetch(claim)
            self._claimer.sync([claim])
            self._check(claim, prober)
            plan = self._plan(name, claim.sha256, claim.image)
            self._add_companions(claim, plan, prober)
            entry = image_entry(self._planner, claim, plan)
            (job,) = self._recorder.record([entry])
        return job["id"]

    def _add_companions(self, claim: Claim, plan: Plan, prober: Prober) -> None:
        """Copy what the settings name, relative to the current folder, into the claim.

        Raises `ConfigError` if a companion is missing or does not decode.
        """
        files = CompanionFiles(self._config, self._inbox, "", free_from=Path.cwd())
        try:
            copy_into(claim, find_lacking(claim, _spec(plan), files))
            require_decodable(claim, prober)
        except JobError as error:
            raise ConfigError(f"{error.detail} ({error.code})") from None
        except claims.ClaimError as error:
            raise ConfigError(str(error)) from error

    def _check(self, claim: Claim, prober: Prober) -> None:
        """Decode the image, hash the copies, and read the sidecar."""
        assert claim.image is not None
        answer = prober.probe(claim.image)
        if isinstance(answer, JobError):
            text = f"{answer.sentence} {answer.detail} ({answer.code})"
            raise ConfigError(f"{claim.image.name}: {text}")
        claim.probed = answer
        hash_files(claim)
        read_sidecar(claim)


def _spec(plan: Plan) -> JobSpec:
    (item,) = plan.items
    assert isinstance(item.outcome, JobSpec)
    return item.outcome


def _mask_file(name: str, submission: Submission) -> InputFile:
    """The mask of an image: the one that is named, or lies beside it. Raises `ConfigError`."""
    mask, source = submission.mask, submission.source
    if mask is None and isinstance(source, Path):
        beside = (source.with_name(each) for each in names_of_masks(source.name))
        mask = next((path for path in beside if path.is_file()), None)
    stem = name.rpartition(".")[0] or name
    if mask is None:
        text = f"no {stem}.mask.png lies beside it; name its mask with --mask"
        raise ConfigError(f"{name}: {text} (mask_missing)")
    return InputFile("mask", f"{stem}.mask{mask.suffix}", mask)


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
        settings: as `stage.parameter=value`. For images with a mask, `img2img.mask` is `file`
            unless they say otherwise.

    Returns:
        The ids of the jobs, and a sentence for each image that could not be queued.

    Raises:
        ConfigError: a setting is wrong; no image was queued.
    """
    submissions = list(submissions)
    if any(submission.mask is not None for _, submission in submissions):
        settings = [_MASK_IN_FILE, *settings]
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
