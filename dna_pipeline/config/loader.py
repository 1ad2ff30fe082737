"""Reader of pipeline.yaml: gives a `Config`, or an error that lists all problems at once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from dna_pipeline.base.errors import ConfigError, JobError
from dna_pipeline.base.naming import safe_name
from dna_pipeline.config import misplaced_keys, receivers, result_names, yaml12
from dna_pipeline.config.file_parts import (
    PathsSpec,
    RetentionSpec,
    RuntimeSpec,
    ServeSpec,
    SigningSpec,
    as_path,
)
from dna_pipeline.config.hours import Hours
from dna_pipeline.config.inboxes import Real, as_written, holds_file, overlaps
from dna_pipeline.config.parameters import (
    check_params,
    keys_of,
    model_problem,
    parameter_keys,
    uses_masks,
    with_defaults,
)
from dna_pipeline.config.problems import (
    Problem,
    as_lines,
    dotted,
    from_validation,
    no_hint,
    not_json,
    unknown_key,
    wrong_key,
    wrong_value,
)
from dna_pipeline.config.receivers import ReceiverConfig, ReceiverSpec
from dna_pipeline.config.schema import (
    HEAD_KEYS,
    SUBMIT_INBOX,
    Config,
    Inbox,
    InboxSpec,
    Pipeline,
    PipelineFile,
    Signing,
    StageSpec,
    is_valid_id,
)
from dna_pipeline.config.sentences import nearest, shown
from dna_pipeline.config.templates import TemplateError
from dna_pipeline.config.yaml12 import Document, KeyPath, is_list, is_mapping
from dna_pipeline.config.yaml_faults import without_blank
from dna_pipeline.providers.checkpoints import ANY_NAME, STAGES, Models
from dna_pipeline.stages import registry

if TYPE_CHECKING:
    from dna_pipeline.providers.base import Provider

_M = TypeVar("_M", bound=BaseModel)

RESERVED_NAMES = {SUBMIT_INBOX, "status.json"}
"""Names that no inbox may have: that of the virtual inbox, and that of a file in the outbox."""


def load_config(file: Path, env: Mapping[str, str] = os.environ, real: Real = as_written) -> Config:
    """Read and check pipeline.yaml, and open no other file or folder.

    Args:
        real: resolves the paths of folders before they are compared for overlaps. By default they
            are compared as written; `operations/configuration.py: load` passes a function that
            follows links.

    Raises:
        ConfigError: one line for each problem, with file, line, and the correction.
    """
    try:
        document = yaml12.load(file)
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: there is no such file; `dna-pipeline init` writes one, --config names another"
        ) from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except yaml12.YamlError as error:
        raise ConfigError("\n".join(f"{file}: {line}" for line in error.messages)) from None
    return _Reader(file, document, env, real).read()


class _Reader:
    """Collects all problems, so that a person can correct them at once and not key by key."""

    def __init__(self, file: Path, document: Document, env: Mapping[str, str], real: Real) -> None:
        self.file = file.absolute()
        self.document = document
        self.env = env
        self.real = real
        self.problems: list[Problem] = []
        self.broken_models: set[str] = set()
        self.broken_pipelines: set[str] = set()
        self.for_all_stages: dict[str, Any] = {}
        """Parameters that the file sets for all stages of all pipelines."""

    def read(self) -> Config:
        if self.document.value is None:
            raise ConfigError(f"{self.file}: the file is empty; `dna-pipeline init` writes one")
        stand_in: dict[str, Any] = {"version": 1, "pipelines": {}}
        spec = self._validate(
            PipelineFile, (), self.document.value, stand_in, misplaced_keys.at_top_of_pipeline_file
        )
        if spec is None:
            raise self._error()
        paths = self._validate(PathsSpec, ("paths",), spec.paths or {}) or PathsSpec()
        runtime = self._validate(RuntimeSpec, ("runtime",), spec.runtime or {}) or RuntimeSpec()
        retention = self._validate(RetentionSpec, ("retention",), spec.retention or {})
        for_all = {"metadata": spec.metadata, "reuse": spec.reuse}
        self.for_all_stages |= {name: word for name, word in for_all.items() if word is not None}
        data = self._path("DNA_DATA_DIR", paths.data)
        outbox = self._path("DNA_OUTPUT_DIR", paths.outbox)
        models = self._models(spec.models or {}, data)
        self._check_preload(runtime.preload, models)
        pipelines = self._pipelines(spec, models)
        inboxes = self._inboxes(spec, pipelines, models)
        signing = self._signing(spec.c2pa)
        notified = self._receivers(spec.notify or [])
        metrics = self._metrics(spec.metrics)
        serve = self._serve(spec.serve or {}, pipelines)
        weights = [path for model in models.declared.values() for path in model.weight_paths]
        weights += [] if models.folder is None else [models.folder]
        self.problems += overlaps(
            self.document, self.env, data, outbox, inboxes, self.real, weights
        )
        self.problems += not_json(self.document, self.problems)
        if self.problems:
            raise self._error()
        listed = tuple(inboxes.values())
        keeping = retention or RetentionSpec()
        return Config(
            self.file, data, outbox, runtime, models, pipelines, listed, keeping, signing,
            notified, metrics, serve,
        )  # fmt: skip

    def _signing(self, entries: Mapping[str, Any] | None) -> Signing | None:
        if entries is None:
            return None
        if (spec := self._validate(SigningSpec, ("c2pa",), entries)) is None:
            return None
        certificate, key = (
            Path(os.path.normpath(self.file.parent / path)) for path in (spec.certificate, spec.key)
        )
        return Signing(certificate, key, spec.algorithm, spec.timestamp_url)

    def _receivers(self, entries: list[Any]) -> tuple[ReceiverConfig, ...]:
        named: dict[str, ReceiverConfig] = {}
        for index, entry in enumerate(entries):
            path: KeyPath = ("notify", index)
            if (spec := self._validate(ReceiverSpec, path, entry)) is None:
                continue
            problems = list(receivers.problems_of(spec, entry))
            for key, text in problems:
                self._wrong((*path, *key), text)
            if problems or (spec.command is None and spec.url is None):
                continue
            receiver = receivers.make_receiver(spec, self.file.parent)
            if receiver.name in named:
                text = f"another receiver is called {receiver.name!r}; set another `name`"
                self._wrong(path, text)
            named[receiver.name] = receiver
        return tuple(named.values())

    def _metrics(self, declared: Path | None) -> Path | None:
        if declared is None:
            return None
        if declared.suffix != ".prom":
            self._wrong(("metrics",), "should end in .prom, or node_exporter does not read it")
        return Path(os.path.normpath(self.file.parent / declared))

    def _serve(self, entries: Mapping[str, Any], pipelines: Mapping[str, Pipeline]) -> ServeSpec:
        spec = self._validate(ServeSpec, ("serve",), entries) or ServeSpec()
        for key, stage in (("img2img", "img2img"), ("triposr", "triposr")):
            if (name := getattr(spec, key)) is None or name in self.broken_pipelines:
                continue
            if name not in pipelines:
                text = f"there is no pipeline {name!r}; there are: {', '.join(pipelines)}"
                self._wrong(("serve", key), text)
            elif all(each.type != stage for each in pipelines[name].stages):
                self._wrong(("serve", key), f"the pipeline {name!r} has no stage {stage}")
        if spec.key is not None and spec.certificate is None:
            self._wrong(("serve", "key"), "a key without a certificate has no use; set both")
        folder = self.file.parent
        placed = {
            name: Path(os.path.normpath(folder / path))
            for name in ("certificate", "key")
            if (path := getattr(spec, name)) is not None
        }
        return spec.model_copy(update=placed)

    def _error(self) -> ConfigError:
        return ConfigError("\n".join(f"{self.file}: {line}" for line in as_lines(self.problems)))

    def _path(self, variable: str, declared: Path) -> Path:
        override = self.env.get(variable)
        path = Path(override).absolute() if override else self.file.parent / declared
        return Path(os.path.normpath(path))

    def _wrong(self, path: KeyPath, text: str) -> None:
        self.problems.append(wrong_value(self.document, path, text))

    def _validate(
        self,
        model: type[_M],
        path: KeyPath,
        value: Any,
        stand_in: Mapping[str, Any] | None = None,
        hint: Callable[[str], str] = no_hint,
    ) -> _M | None:
        """The model; without the wrong keys if there are any, so that the search can go on.

        None if the value does not fit even without them.
        """
        try:
            return model.model_validate(value)
        except ValidationError as error:
            self.problems += from_validation(error, self.document, path, model, hint=hint)
            if not is_mapping(value):
                if isinstance(value, str) and (mend := without_blank(value)):
                    self._wrong(path, mend)
                return None
            wrong = {item["loc"][0] for item in error.errors() if item["loc"]}
        rest = {key: entry for key, entry in value.items() if key not in wrong}
        try:
            return model.model_validate({**(stand_in or {}), **rest})
        except ValidationError:
            return None

    # --- models ---

    def _models(self, entries: Mapping[str, Any], data: Path) -> Models:
        models: dict[str, Provider] = {}
        folder: Path | None = None
        for name, entry in entries.items():
            if name == ANY_NAME:
                folder = self._checkpoints(("models", name), entry, data)
                continue
            provider = self._provider(("models", name), entry)
            if provider is None:
                self.broken_models.add(name)
            else:
                models[name] = provider.located(data)
        return Models(models, folder)

    def _checkpoints(self, path: KeyPath, entry: Any, data: Path) -> Path | None:
        """The folder of checkpoints, whose files are looked for when a job names one."""
        if isinstance(entry, str) and entry.strip():
            return Path(os.path.normpath(data / as_path(entry)))
        self.broken_models.add(ANY_NAME)
        text = "should be the path of a folder, each checkpoint in which is a model by its name"
        self._wrong(path, f"{text}; not {shown(entry)}")
        return None

    def _provider(self, path: KeyPath, entry: Any) -> Provider | None:
        names = registry.provider_names()
        if not is_mapping(entry):
            self._wrong(path, f"should be a mapping with the key 'provider', not {shown(entry)}")
            return None
        if "provider" not in entry:
            text = f"the key '{dotted(path)}.provider' is missing; known here: {', '.join(names)}"
            self.problems.append(wrong_key(self.document, path, text))
            return None
        keys = dict(entry)
        word = keys.pop("provider")
        if word not in names:
            near = nearest(word if isinstance(word, str) else "", names)
            self._wrong((*path, "provider"), f"should name a provider, not {shown(word)}; {near}")
            return None
        return self._validate(registry.provider_class(word), path, keys)

    def _check_preload(self, names: list[str], models: Models) -> None:
        """Check the names in `runtime.preload`; one that is no declared model may be a checkpoint
        of the folder."""
        if models.folder is not None or ANY_NAME in self.broken_models:
            return
        for index, name in enumerate(names):
            if name not in models.declared and name not in self.broken_models:
                text = f"no model is called {name!r}; {nearest(name, models.declared)}"
                self._wrong(("runtime", "preload", index), text)

    # --- pipelines ---

    def _pipelines(self, spec: PipelineFile, models: Models) -> dict[str, Pipeline]:
        if self.document.value.get("pipelines") == {}:
            self._wrong(("pipelines",), "at least one pipeline is needed")
        pipelines: dict[str, Pipeline] = {}
        for name, stages in spec.pipelines.items():
            path: KeyPath = ("pipelines", name)
            if not name.strip() or not name.isprintable():
                self._wrong(path, "a pipeline needs a name that can be read")
            entries = stages if is_list(stages) else []
            if not entries:
                self._wrong(path, "should be a list of at least one stage")
            specs = [self._stage((*path, i), entry, models) for i, entry in enumerate(entries)]
            whole = [stage for stage in specs if stage is not None]
            if len(whole) == len(entries) > 0:
                self._check_order(path, whole)
            else:
                self.broken_pipelines.add(name)
            pipelines[name] = Pipeline(name, tuple(whole))
        return pipelines

    def _stage(self, path: KeyPath, entry: Any, models: Models) -> StageSpec | None:
        if not is_mapping(entry) or len(entry) != 1:
            self._wrong(path, "a stage is a mapping with one key, its type, like `{triposr: {}}`")
            return None
        ((kind, body),) = entry.items()
        path = (*path, kind)
        if kind not in registry.stage_types():
            self.problems.append(unknown_key(self.document, path, registry.stage_types()))
            return None
        stage_id: Any = kind
        if is_mapping(body) and "id" in body:
            stage_id = body["id"]
            body = {key: value for key, value in body.items() if key != "id"}
            if not self._is_id((*path, "id"), stage_id, kind):
                return None
        params = self._params(path, kind, body, other_keys=["id"])
        if params is None or not self._fits(path, kind, params):
            return None
        name = self._model_for(path, kind, params.pop("model", None), models)
        return StageSpec(stage_id, kind, {"model": name, **self.for_all_stages, **params})

    def _is_id(self, path: KeyPath, stage_id: Any, kind: str) -> bool:
        if not isinstance(stage_id, str) or not is_valid_id(stage_id):
            text = "should be a word of at most 40 letters, digits and _, a letter first"
            self._wrong(path, f"{text}, not {shown(stage_id)}")
            return False
        if stage_id in HEAD_KEYS or stage_id in set(registry.stage_types()) - {kind}:
            self._wrong(path, f"{stage_id!r} has a meaning of its own in sidecars; choose another")
            return False
        return True

    def _params(
        self, path: KeyPath, kind: str, value: Any, other_keys: Iterable[str] = ()
    ) -> dict[str, Any] | None:
        """Parameters by their own names, not aliases; None if one of them is invalid."""
        stage = registry.stage_class(kind)
        params, problems = check_params(
            stage, self.document, path, value, other_keys=other_keys,
            hint=partial(misplaced_keys.in_stage, unit=self.document.unit, stage=stage,
                         stages=misplaced_keys.known_stages(), others={}),
        )  # fmt: skip
        self.problems += problems
        return None if problems else params

    def _fits(self, path: KeyPath, kind: str, params: dict[str, Any]) -> bool:
        """True if the parameters, each valid by itself, are valid together."""
        stage = registry.stage_class(kind)
        try:
            stage.model_validate(params).check()
        except ValidationError as error:
            self.problems += from_validation(error, self.document, path, stage)
            return False
        except JobError as error:
            said = error.sentence.rstrip(".")
            self._wrong(path, f"{said} ({error.detail})" if error.detail else said)
            return False
        return True

    def _model_for(self, path: KeyPath, kind: str, name: str | None, models: Models) -> str | None:
        """Name of the model: the one that the stage names, or else the only one that fits."""
        if name in self.broken_models or (name is None and self.broken_models):
            return name
        fitting = [n for n, provider in models.declared.items() if kind in provider.stages]
        if name is None and len(fitting) == 1:
            return fitting[0]
        if (text := self._model_problem(models, kind, name)) is not None:
            self._wrong(path if name is None else (*path, "model"), text)
        return name

    def _model_problem(self, models: Models, kind: str, name: str | None) -> str | None:
        """As `model_problem`, without a look at the folder of checkpoints."""
        may_have_it = models.folder is not None or ANY_NAME in self.broken_models
        if name is not None and name not in models.declared and may_have_it and kind in STAGES:
            return None
        return model_problem(Models(models.declared), kind, name)

    def _check_order(self, path: KeyPath, stages: list[StageSpec]) -> None:
        a = {"image": "an image", "mesh": "a mesh"}
        ids: set[str] = set()
        before, available = "", "image"
        for index, stage in enumerate(stages):
            if stage.id.casefold() in ids:
                text = f"two stages are called {stage.id!r}; give each an `id` of its own"
                self._wrong((*path, index), text)
            ids.add(stage.id.casefold())
            kind = registry.stage_class(stage.type)
            if kind.consumes != available:
                needs, gets = a[kind.consumes], a[available]
                start = (
                    f"{before}, which stands before it, makes" if before else "a job begins with"
                )
                self._wrong((*path, index), f"{stage.id} needs {needs}, but {start} {gets}")
            before, available = stage.id, kind.produces
        self._check_file_names(path, stages)

    def _check_file_names(self, path: KeyPath, stages: list[StageSpec]) -> None:
        """Check the ids of stages whose type occurs more than once.

        Such an id is part of the names of the stage's files. The names must differ from those of
        another stage's files.
        """
        times = Counter(stage.type for stage in stages)
        words = {
            word: stage.id
            for stage in stages
            if times[stage.type] == 1
            for word in registry.stage_class(stage.type).file_words
        }
        for index, stage in enumerate(stages):
            if times[stage.type] > 1 and (other := words.get(stage.id.casefold())) is not None:
                text = f"files of {other} are called so; choose another id than {stage.id!r}"
                self._wrong((*path, index, stage.type, "id"), text)

    # --- inboxes ---

    def _inboxes(
        self,
        spec: PipelineFile,
        pipelines: Mapping[str, Pipeline],
        models: Models,
    ) -> dict[int, Inbox]:
        """Inboxes by their places in the list."""
        names: set[str] = set()
        inboxes: dict[int, Inbox] = {}
        for index, entry in enumerate(spec.inboxes or []):
            path: KeyPath = ("inboxes", index)
            inbox_spec = self._validate(
                InboxSpec, path, entry, hint=partial(_in_inbox, entry, pipelines)
            )
            if inbox_spec is None:
                continue
            inbox = replace(self._inbox(inbox_spec), line=self.document.line((*path, "path")))
            self._check_name(path, inbox_spec.name, inbox.name, names)
            names.add(inbox.name.casefold())
            if inbox.pipeline in pipelines:
                self._check_defaults((*path, "defaults"), inbox, pipelines, models)
                self._check_result_name(path, inbox, pipelines)
                if not self.problems:
                    stages = pipelines[inbox.pipeline].stages
                    inbox = replace(inbox, pairs_masks=uses_masks(stages, inbox.defaults))
            elif self.document.has(("pipelines",)):
                text = f"no pipeline is called {inbox.pipeline!r}"
                self._wrong((*path, "pipeline"), f"{text}; {nearest(inbox.pipeline, pipelines)}")
            inboxes[index] = inbox
            if holds_file(inbox, self.file, self.real):
                text = "this folder holds pipeline.yaml itself, which would be taken for a sidecar"
                self._wrong((*path, "path"), f"{text}; watch another folder")
        return inboxes

    def _inbox(self, entry: InboxSpec) -> Inbox:
        folder = Path(os.path.normpath(self.file.parent / entry.path))
        keep = entry.originals == "keep"
        required = entry.sidecar == "required"
        wait = entry.sidecar_wait_seconds
        return Inbox(
            name=entry.name or safe_name(folder.name),
            path=folder,
            pipeline=entry.pipeline,
            originals=entry.originals,
            on_change=entry.on_change or ("latest" if keep else "all"),
            existing=entry.existing,
            sidecar_required=required,
            sidecar_wait_s=wait if wait is not None else (3600 if required else 5),
            prompt_files=entry.prompt_files,
            recursive=entry.recursive,
            settle_s=entry.settle_seconds,
            rescan_s=entry.rescan_seconds,
            watch=entry.watch,
            include=tuple(entry.include),
            ignore=tuple(entry.ignore),
            priority=entry.priority,
            defaults=entry.defaults or {},
            latest=keep if entry.latest is None else entry.latest,
            hours=None if entry.hours is None else Hours.parse(entry.hours),
            source_roots=tuple(
                Path(os.path.normpath(self.file.parent / root)) for root in entry.source_roots
            ),
            on_duplicate=entry.on_duplicate,
            metadata=entry.metadata,
            reuse=entry.reuse,
            result_name=entry.result_name,
        )

    def _check_result_name(
        self, path: KeyPath, inbox: Inbox, pipelines: Mapping[str, Pipeline]
    ) -> None:
        """Check the placeholders against the stages of all pipelines: sidecars may choose any."""
        if inbox.result_name is None:
            return
        stages = misplaced_keys.stages_near(inbox.pipeline, pipelines)
        try:
            result_names.check_fields(inbox.result_name, parameter_keys(stages))
        except TemplateError as error:
            self._wrong((*path, "result_name"), str(error))

    def _check_name(self, path: KeyPath, declared: str | None, name: str, others: set[str]) -> None:
        where = (*path, "name" if declared else "path")
        if name.casefold() in RESERVED_NAMES:
            self._wrong(where, f"the name {name!r} is taken by the program; set another `name`")
        elif name.casefold() in others:
            self._wrong(where, f"another inbox is called {name!r}; set another `name`")
        if safe_name(name) != name:
            text = f"{shown(name)} cannot be a folder's name everywhere"
            self._wrong(where, f"{text}; {safe_name(name)!r} can")

    def _check_defaults(
        self,
        path: KeyPath,
        inbox: Inbox,
        pipelines: Mapping[str, Pipeline],
        models: Models,
    ) -> None:
        """Check each default by itself, and all of them together with the inbox's own pipeline."""
        stages = {(key, s.type) for p in pipelines.values() for s in p.stages for key in keys_of(s)}
        before = len(self.problems)
        for key, value in inbox.defaults.items():
            types = sorted(kind for name, kind in stages if name == key)
            if not types and not self.broken_pipelines:
                valid_keys = {name for name, _ in stages}
                own = misplaced_keys.stages_of([pipelines[inbox.pipeline]])
                others = misplaced_keys.stages_of(pipelines.values())
                hint = misplaced_keys.in_defaults(key, own, others)
                self.problems.append(unknown_key(self.document, (*path, key), valid_keys, hint))
            for kind in types:
                self._check_default((*path, key), kind, value, models)
        if len(self.problems) > before:
            return
        for stage in pipelines[inbox.pipeline].stages:
            kind = registry.stage_class(stage.type)
            params = with_defaults(kind, stage, inbox.defaults, inbox.for_all_stages)
            keys = [key for key in keys_of(stage) if key in inbox.defaults]
            if keys:
                self._fits((*path, keys[-1]), stage.type, params)

    def _check_default(self, path: KeyPath, kind: str, value: Any, models: Models) -> None:
        params = self._params(path, kind, value) or {}
        name = params.get("model")
        if name is None or name in self.broken_models:
            return
        if (text := self._model_problem(models, kind, name)) is not None:
            self._wrong((*path, "model"), text)


def _in_inbox(entry: Any, pipelines: Mapping[str, Pipeline], key: str) -> str:
    name = entry.get("pipeline") if is_mapping(entry) else None
    return misplaced_keys.in_inbox(key, misplaced_keys.stages_near(name, pipelines))
