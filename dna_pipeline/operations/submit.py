"""Submission of images by command, without an inbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from dna_pipeline.base.errors import ConfigError, JobError, MaskMissing
from dna_pipeline.base.naming import sidecar_name
from dna_pipeline.config import yaml12
from dna_pipeline.config.batch import BATCH_KEYS
from dna_pipeline.config.columns import steps_to
from dna_pipeline.config.misplaced_keys import known_stages, stages_of
from dna_pipeline.config.parameters import takes_text
from dna_pipeline.config.schema import SUBMIT_INBOX, Config, Inbox, Pipeline
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.config.yaml12 import Document, is_mapping
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.claim import Claim, InputFile
from dna_pipeline.intake.claiming.claimer import Claimer, hash_files, read_sidecar
from dna_pipeline.intake.claiming.companions import copy_into, find_lacking, require_decodable
from dna_pipeline.intake.claiming.recorder import Entry, Recorder, image_entry
from dna_pipeline.intake.discovery.mask_names import names_of_masks
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.intake.planning.companion_files import CompanionFiles, Need
from dna_pipeline.intake.planning.named_images import Source
from dna_pipeline.intake.planning.plan import Plan
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.lookup import explain, open_ledger

JobNames = Callable[[int, int], str]
"""Gives the id of a job by the numbers of its image and of its place among that image's jobs."""

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
        mask: its mask; None for the file that lies beside it, if a stage needs one. A stream has
            the name `mask.png`.
    """

    name: str
    source: Path | IO[bytes]
    mask: Path | IO[bytes] | None = None


class Refused(ConfigError):
    """The image or a setting cannot become a job, for a reason with a code."""

    def __init__(self, error: JobError, text: str | None = None) -> None:
        super().__init__(text or f"{error.detail or error.sentence} ({error.code})")
        self.error = error


class _Checked(Exception):
    """Ends claims that were made for a check alone."""


class Submitter:
    """Copies images into the data folder and queues them there.

    Args:
        inbox: the inbox under whose name and with whose settings they are queued; None for that of
            `submit`.
        follows_paths: True if settings may name any file, as its user could read it; False if only
            pipeline.yaml may.
        text: the settings as they were written, which the results quote; None for `document`.

    Raises:
        ConfigError: the settings are wrong.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        document: Document,
        *,
        inbox: Inbox | None = None,
        follows_paths: bool = True,
        text: bytes | None = None,
    ) -> None:
        self._config = config
        self._follows_paths = follows_paths
        self._document = document
        self._text = text
        inbox = inbox or config.inbox(SUBMIT_INBOX)
        assert inbox is not None
        # None of its files lie in the inbox, so nothing is looked up there or put back there.
        inbox = replace(
            inbox, path=config.data / "submit", source_roots=(), originals="archive",
            on_change="all",
        )  # fmt: skip
        self._planner = Planner(config, inbox)
        self._claimer = Claimer(config, inbox, ledger)
        self._recorder = Recorder(config, inbox, ledger)
        self._inbox = inbox
        specs = _specs(self._plan("", None))
        self._needs_mask = any(("mask", "") in spec.needed_companions for spec in specs)

    def _plan(self, name: str, sha256: str | None, file: Path | None = None) -> Plan:
        try:
            return self._planner.plan_image("", name, self._document, sha256, file=file)
        except JobError as error:
            raise Refused(error) from None

    def submit(self, submission: Submission, prober: Prober) -> str:
        """Queue one image and give its job's id. Raises ConfigError if it is no usable image."""
        (job,) = self.submit_drops([submission], prober)
        return job

    def submit_drops(
        self, submissions: Sequence[Submission], prober: Prober, name_job: JobNames | None = None
    ) -> list[str]:
        """Queue all jobs of some images, or none; give their ids.

        Args:
            name_job: gives the id of a job by the numbers of its image and of its place among the
                jobs of that image, both from 0; None: ids are drawn at random.

        Raises:
            ConfigError: one is no usable image.
            LedgerError: a job has one of these ids already.
        """
        with ExitStack() as claiming:
            entries = [self._claim(claiming, each, prober) for each in submissions]
            for number, entry in enumerate(entries):
                for place, item in enumerate(entry.plan.items):
                    if item.job is not None and name_job is not None:
                        item.job["id"] = name_job(number, place)
            jobs = self._recorder.record(entries)
        return [job["id"] for job in jobs]

    def check(self, submissions: Sequence[Submission], prober: Prober) -> list[Entry]:
        """Do all that `submit_drops` does but the last commit, and undo it again.

        Raises as that.
        """
        entries: list[Entry] = []
        with suppress(_Checked), ExitStack() as claiming:
            entries = [self._claim(claiming, each, prober) for each in submissions]
            raise _Checked
        return entries

    def _claim(self, claiming: ExitStack, submission: Submission, prober: Prober) -> Entry:
        """Copy an image into a claim and plan its jobs. The claim goes if anything fails before the
        stack is left."""
        name = Path(submission.name).name
        claim = self._claimer.plan("", self._files(name, submission))
        claiming.enter_context(self._claimer.claiming(claim))
        self._claimer.fetch(claim)
        self._claimer.sync([claim])
        self._check(claim, prober)
        plan = self._plan(name, claim.sha256, claim.image)
        self._add_companions(claim, plan, prober)
        return image_entry(self._planner, claim, plan)

    def _files(self, name: str, submission: Submission) -> list[InputFile]:
        files = [InputFile("image", name, submission.source)]
        if self._document.value:
            # People read and correct the command's settings there before a retry.
            text = self._text or yaml12.dumps(self._document.value, indent=2).encode()
            files.insert(0, InputFile("sidecar", sidecar_name(name), BytesIO(text)))
        if self._needs_mask:
            files.insert(-1, _mask_file(name, submission))
        return files

    def _add_companions(self, claim: Claim, plan: Plan, prober: Prober) -> None:
        """Copy what the settings name, relative to the current folder, into the claim.

        Raises `ConfigError` if a companion is missing or does not decode.
        """
        free_from = Path.cwd() if self._follows_paths else None
        files = CompanionFiles(self._config, self._inbox, "", free_from=free_from)
        try:
            sources: dict[Need, Source] = {}
            for spec in _specs(plan):
                sources |= find_lacking(claim, spec, files)
            copy_into(claim, sources)
            require_decodable(claim, prober)
        except JobError as error:
            raise Refused(error) from None
        except claims.ClaimError as error:
            raise ConfigError(str(error)) from error

    def _check(self, claim: Claim, prober: Prober) -> None:
        """Decode the image, hash the copies, and read the sidecar."""
        assert claim.image is not None
        answer = prober.probe(claim.image)
        if isinstance(answer, JobError):
            text = f"{answer.sentence} {answer.detail} ({answer.code})"
            raise Refused(answer, f"{claim.image.name}: {text}")
        claim.probed = answer
        hash_files(claim)
        read_sidecar(claim)


def _specs(plan: Plan) -> list[JobSpec]:
    return [item.outcome for item in plan.items if isinstance(item.outcome, JobSpec)]


def _mask_file(name: str, submission: Submission) -> InputFile:
    """The mask of an image: the one that is named, or lies beside it. Raises `ConfigError`."""
    mask, source = submission.mask, submission.source
    if mask is None and isinstance(source, Path):
        beside = (source.with_name(each) for each in names_of_masks(source.name))
        mask = next((path for path in beside if path.is_file()), None)
    stem = name.rpartition(".")[0] or name
    if mask is None:
        text = f"no {stem}.mask.png lies beside it; name its mask with --mask"
        raise Refused(MaskMissing(text), f"{name}: {text} (mask_missing)")
    suffix = mask.suffix if isinstance(mask, Path) else ".png"
    return InputFile("mask", f"{stem}.mask{suffix}", mask)


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
