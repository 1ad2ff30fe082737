"""Everything that can go wrong, as one tree.

    DnaError
    ├── ConfigError              a wrong call or configuration; exit status 2
    │   └── LedgerUnreadable     the ledger cannot be read at the moment
    ├── Locked                   another daemon holds this data folder; exit status 3
    ├── TransferFailed           files of models could not be fetched or carried; exit status 1
    ├── ServiceFailed            the system's service manager did not do it; exit status 1
    ├── Hold                     the environment is not ready: the job waits
    │   ├── WeightsMissing  DeviceUnavailable  DiskFull  OutboxUnavailable  InboxUnavailable
    │   └── SigningUnavailable  Hours  Paused  RetryWait  OtherRows
    └── JobError                 this job fails and says why
        ├── SidecarInvalid  SidecarAmbiguous  SidecarMissing  ParameterInvalid
        ├── MaskMissing  MaskUnreadable  MaskMismatch
        ├── UnknownPipeline  UnknownModel  NoEffectiveSteps
        ├── ImageMissing  ImageUnreadable  ImageTooSmall  ImageTooLarge
        ├── PathEscapesInbox  SourceMissing
        ├── WeightsMismatch  CompilerMissing  NonFiniteOutput  BlackImage  ContentFiltered
        ├── EmptyForeground  BackgroundNotPlain  EmptyMesh  UnwrapFailed  VideoFailed
        └── OutOfMemory  WorkerCrashed  StageTimeout  StageFailed  Cancelled

Each job error has a stable `code`, a `sentence` that says what to do, and a `detail` that describes
this one case; docs/failures.md has an entry for each code. Each provider maps the errors of its
library to these classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

MAX_DETAIL_CHARS = 16_000
"""Longest detail. It goes to the ledger, to ERROR.txt and to terminals, and may quote text of any
length that strangers wrote."""


class DnaError(Exception):
    """Root of all errors that this package raises on purpose."""


class ConfigError(DnaError):
    """A wrong call or configuration. The text names the file, the line and the correction."""


class LedgerUnreadable(ConfigError):
    """The ledger cannot be read at the moment: its disk is gone or fails, say. A command ends with
    it as with any wrong call; the daemon tries again."""


class Locked(DnaError):
    """Another daemon holds the data folder."""


class TransferFailed(DnaError):
    """Files of a model could not be fetched, taken from a folder, packed or unpacked. The text says
    which, why, and what to do."""


class ServiceFailed(DnaError):
    """The system's service manager is not there, or did not do what it was asked. The text says
    which part is done, why the rest is not, and what to do."""


class Hold(DnaError):
    """A fault of the environment. It makes jobs wait and never fails them."""

    code: ClassVar[str] = "hold"


class WeightsMissing(Hold):
    code = "weights_missing"


class DeviceUnavailable(Hold):
    code = "device_unavailable"


class DiskFull(Hold):
    code = "disk_full"


class OutboxUnavailable(Hold):
    code = "outbox_unavailable"


class InboxUnavailable(Hold):
    code = "inbox_unavailable"


class SigningUnavailable(Hold):
    code = "signing_unavailable"


class Hours(Hold):
    code = "hours"


class Paused(Hold):
    code = "paused"


class RetryWait(Hold):
    code = "retry_wait"


class OtherRows(Hold):
    code = "other_rows"


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why one job failed, as `error.json` and the ledger store it.

    Attributes:
        message: the sentence for people.
        detail: the facts of this case.
        hint: a further way to correct this case, if there is one.
        retryable: True if the same job may succeed unchanged.
    """

    code: str
    message: str
    detail: str
    hint: str = ""
    retryable: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Failure:
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


class JobError(DnaError):
    """A failure of one job, with a stable code.

    Args:
        detail: the facts of this case.
        hint: how to correct this case, beyond the general sentence.
        where: the key that causes the failure, such as `img2img.strength`; "" if none does.
    """

    code: ClassVar[str] = "stage_failed"
    sentence: ClassVar[str] = "This job failed."
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "", *, hint: str = "", where: str = "") -> None:
        super().__init__(detail or self.sentence)
        self.detail = detail
        self.hint = hint
        self.where = where

    def failure(self) -> Failure:
        detail = self.detail[:MAX_DETAIL_CHARS]
        return Failure(self.code, self.sentence, detail, self.hint, self.retryable)


class SidecarInvalid(JobError):
    code = "sidecar_invalid"
    sentence = "The YAML beside the image cannot be used as it is; correct it and retry the job."


class SidecarAmbiguous(JobError):
    code = "sidecar_ambiguous"
    sentence = (
        "Several images share this YAML's name, so it is unclear which one it tells; "
        "name it after the whole file name, like cat.png.yaml."
    )


class SidecarMissing(JobError):
    code = "sidecar_missing"
    sentence = "This inbox requires a YAML beside each image, and none came; drop both together."


class MaskMissing(JobError):
    code = "mask_missing"
    sentence = (
        "The mask that the job asks for is not there; save it in `source/` of the failure's "
        "folder, as cat.mask.png for cat.png, or where its path says, and retry the job."
    )


class MaskUnreadable(JobError):
    code = "mask_unreadable"
    sentence = (
        "The mask cannot be used as an image; export it again, in its picture's size, and retry "
        "the job."
    )


class MaskMismatch(JobError):
    code = "mask_mismatch"
    sentence = (
        "The mask has another shape than its picture; save it in `source/` of the failure's "
        "folder, in the picture's size and under the same name, and retry the job."
    )


class ParameterInvalid(JobError):
    code = "parameter_invalid"
    sentence = "A parameter has a value that cannot be used; correct it and retry the job."


class UnknownPipeline(JobError):
    code = "unknown_pipeline"
    sentence = "No pipeline of this name is declared in pipeline.yaml; choose one that is."


class UnknownModel(JobError):
    code = "unknown_model"
    sentence = (
        "The name of the model does not mean one model that can run this stage; choose one that "
        "`dna-pipeline models list` shows."
    )


class NoEffectiveSteps(JobError):
    code = "no_effective_steps"
    sentence = "steps × strength is below one, so nothing would change; raise either of them."


class ImageMissing(JobError):
    code = "image_missing"
    sentence = "The image that this YAML tells of has not come; drop the two again together."


class ImageUnreadable(JobError):
    code = "image_unreadable"
    sentence = "The file cannot be read as an image; export it again, as PNG if need be."


class ImageTooSmall(JobError):
    code = "image_too_small"
    sentence = "The image is too small to work with; use one of at least 16 pixels a side."


class ImageTooLarge(JobError):
    code = "image_too_large"
    sentence = "The image has more pixels than can be handled safely; scale it down first."


class PathEscapesInbox(JobError):
    code = "path_escapes_inbox"
    sentence = "A path in the YAML leaves the inbox; name only files that lie inside it."


class SourceMissing(JobError):
    code = "source_missing"
    sentence = "The original that this job was made from is gone; drop the image again."


class WeightsMismatch(JobError):
    code = "weights_mismatch"
    sentence = "The weights on disk do not fit the model; fetch or convert them again."


class NonFiniteOutput(JobError):
    code = "non_finite_output"
    sentence = "The model produced values that are not numbers; try dtype float32 in pipeline.yaml."


class BlackImage(JobError):
    code = "black_image"
    sentence = (
        "The model produced an all-black image; try dtype float32, another seed or fewer steps."
    )


class CompilerMissing(JobError):
    code = "compiler_missing"
    sentence = (
        "The model is to be compiled and this machine lacks a tool for it; install that, or set "
        "compile: false for the model."
    )


class ContentFiltered(JobError):
    code = "content_filtered"
    sentence = "The model's safety checker blanked the result; change the prompt or the image."


class EmptyForeground(JobError):
    code = "empty_foreground"
    sentence = (
        "Nothing is left after the background was removed; use an image with a clear subject."
    )


class BackgroundNotPlain(JobError):
    code = "background_not_plain"
    sentence = (
        "The background is not one plain colour, which border_key needs; "
        "use a rembg model, or a picture with a plain backdrop."
    )


class EmptyMesh(JobError):
    code = "empty_mesh"
    sentence = (
        "The model found no surface in the image; lower the threshold or use a clearer image."
    )


class UnwrapFailed(JobError):
    code = "unwrap_failed"
    sentence = (
        "The mesh could not be laid out for its texture; lower target_faces, raise min_component, "
        "or set bake_texture: false."
    )


class VideoFailed(JobError):
    code = "video_failed"
    sentence = (
        "The turntable's film could not be written; see that the package imageio-ffmpeg is "
        "installed, or that IMAGEIO_FFMPEG_EXE names an ffmpeg with libx264."
    )


class OutOfMemory(JobError):
    code = "out_of_memory"
    sentence = "The device ran out of memory; lower max_size, resolution or texture_resolution."
    retryable = True


class WorkerCrashed(JobError):
    code = "worker_crashed"
    sentence = (
        "The worker process ended while it ran this job, more often than is allowed; "
        "see the log for why, then retry the job or make it smaller."
    )
    retryable = True


class StageTimeout(JobError):
    code = "stage_timeout"
    sentence = "A stage ran longer than runtime.stage_timeout_s; raise it or make the job smaller."
    retryable = True


class StageFailed(JobError):
    code = "stage_failed"
    sentence = (
        "A stage failed in a way that was not foreseen; see the detail and the log, "
        "then mend the cause and retry the job."
    )


class Cancelled(JobError):
    code = "cancelled"
    sentence = "The job was cancelled; `dna-pipeline retry` runs it again."
    retryable = True
