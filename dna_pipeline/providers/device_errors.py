"""Sorts errors of the device's libraries: memory that ran out, or a device that has failed.

torch, cuDNN, onnxruntime and their kin raise both as errors of a few classes, and only the text
tells them apart. Classes are matched by their names, so that no library is imported for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dna_pipeline.base.errors import JobError, OutOfMemory

_MEMORY = re.compile(
    r"out.?of.?memory"  # in words, and in names like hipErrorOutOfMemory
    r"|alloc(ation)?_?failed"  # CUBLAS_STATUS_ALLOC_FAILED, miopenStatusAllocFailed and their kin
    r"|cudaErrorMemoryAllocation|rocblas_status_memory_error|NVML_SUCCESS"
    r"|allocate memory|not enough memory|insufficient memory|memory not available"
    r"|bad.alloc|Invalid buffer size",  # std::bad_alloc, bad allocation; MPS
    re.IGNORECASE,
)
_FAULT = re.compile(
    r"\b(CUDA|HIP|MPS|XPU|cuDNN|cuBLAS|cuSOLVER|cuSPARSE|cuFFT|cuRAND|hipBLAS|rocBLAS|MIOpen)"
    r"( driver| unknown)? (error|failure)\b"
    r"|Triton Error|miopenStatus|device-side assert|unspecified launch failure"
    r"|CUDA call failed|CUDA initialization|No CUDA GPUs are available"
    r"|command buffer exited with error",
    re.IGNORECASE,
)
_MEMORY_CLASSES = {"OutOfMemoryError"}
_FAULT_CLASSES = {"AcceleratorError", "CudaError", "DeferredCudaCallError"}
_LIBRARIES = ("onnxruntime", "cv2")
"""Modules whose errors are no RuntimeErrors."""


def is_out_of_memory(error: BaseException) -> bool:
    """True if memory of the device or the machine ran out, so that a try with less may succeed."""
    return _kind(error) == "memory"


def is_device_fault(error: BaseException) -> bool:
    """True if the device or its driver failed, after which it may never work in this process."""
    return _kind(error) == "fault"


def _kind(error: BaseException) -> str | None:
    """`memory` or `fault`, by the first error in the chain of causes that is either; else None."""
    for link in _chain(error):
        if _says_memory(link):
            return "memory"
        if _says_fault(link):
            return "fault"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its chain of causes. The chain ends at an error of our own without a cause: it
    was raised on purpose, so the error that was handled at that time does not explain it."""
    visited: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in visited:
        visited.add(id(link))
        yield link
        is_hidden = link.__suppress_context__ or isinstance(link, JobError)
        link = link.__cause__ or (None if is_hidden else link.__context__)


def _says_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | OutOfMemory) or type(error).__name__ in _MEMORY_CLASSES:
        return True
    return _is_of_library(error) and _MEMORY.search(str(error)) is not None


def _says_fault(error: BaseException) -> bool:
    if type(error).__name__ in _FAULT_CLASSES:
        return True
    return _is_of_library(error) and _FAULT.search(str(error)) is not None


def _is_of_library(error: BaseException) -> bool:
    """False for errors whose text may quote a file's name or a person's words."""
    return (
        isinstance(error, RuntimeError)
        or type(error).__name__ in _FAULT_CLASSES
        or type(error).__module__.partition(".")[0] in _LIBRARIES
    )
