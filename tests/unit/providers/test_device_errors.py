"""Texts that libraries really raise, and what each of them means."""

from __future__ import annotations

import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from dna_pipeline.base.errors import ImageUnreadable, OutOfMemory, WeightsMismatch
from dna_pipeline.providers.device_errors import is_device_fault, is_out_of_memory

ONNX = "Non-zero status code returned while running Conv node. Name:'Conv_1' Status Message: "

MEMORY: list[BaseException] = [
    MemoryError(),
    OutOfMemory("8 GiB"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    torch.OutOfMemoryError("HIP out of memory. Tried to allocate 512.00 MiB"),
    torch.AcceleratorError(
        "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia"
        ".com\nCUDA kernel errors might be asynchronously reported at some other API call\nCompile "
        "with `TORCH_USE_CUDA_DSA` to enable device-side assertions."
    ),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError(
        "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"
    ),
    RuntimeError("CUDA error: CUSPARSE_STATUS_ALLOC_FAILED when calling `cusparseCreate(handle)`"),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    RuntimeError("HIP error: out of memory"),
    RuntimeError("MIOpen Error: Memory not available to allocate buffer: 655360000"),
    RuntimeError("MPS backend out of memory (MPS allocated: 16.00 GB, max allowed: 18.13 GB)."),
    RuntimeError("Invalid buffer size: 24.00 GiB"),
    RuntimeError("Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 1"),
    RuntimeException(
        ONNX + "BFCArena::AllocateRawInternal Failed to allocate memory for requested"
    ),
    RuntimeException(ONNX + "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=egg"),
    RuntimeException(ONNX + "CUDA failure 2: out of memory ; GPU=0 ; hostname=egg"),
]

FAULTS: list[BaseException] = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
    torch.AcceleratorError("of a kind that has no name yet"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    RuntimeError("CUDA error: no kernel image is available for execution on the device"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `x`"),
    RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment"),
    RuntimeError("No CUDA GPUs are available"),
    RuntimeError("HIP error: the operation cannot be performed in the present state"),
    RuntimeError("miopenStatusUnknownError"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    RuntimeException(ONNX + "CUDA failure 700: an illegal memory access was encountered ; GPU=0"),
    RuntimeException(ONNX + "CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0"),
]

NEITHER: list[BaseException] = [
    ValueError("out of memory"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)"),
    RuntimeError("expected scalar type Half but found Float"),
    ImageUnreadable("CUDA error.png: breaks off"),
    WeightsMismatch("out of memory.safetensors is not a Stable Diffusion 1.5"),
    FileNotFoundError(2, "No such file or directory", "CUDA error: out of memory.png"),
]


def kind(error: BaseException) -> tuple[bool, bool]:
    return is_out_of_memory(error), is_device_fault(error)


@pytest.mark.parametrize("error", MEMORY, ids=str)
def test_memory_that_ran_out(error: BaseException):
    assert kind(error) == (True, False)


@pytest.mark.parametrize("error", FAULTS, ids=str)
def test_a_device_that_failed(error: BaseException):
    assert kind(error) == (False, True)


@pytest.mark.parametrize("error", NEITHER, ids=str)
def test_neither(error: BaseException):
    assert kind(error) == (False, False)


def raised(error: BaseException, cause: BaseException, *, named: bool) -> BaseException:
    """The error as it is caught when it was raised from the cause, or while that was handled."""
    try:
        try:
            raise cause
        except type(cause):
            if named:
                raise error from cause
            raise error  # noqa: B904 - as some libraries do
    except type(error) as caught:
        return caught


@pytest.mark.parametrize("cause", [MEMORY[6], FAULTS[0]], ids=["memory", "fault"])
def test_what_was_raised_from_it_is_of_its_kind(cause: BaseException):
    for named in (True, False):
        assert kind(raised(OSError("cannot load"), cause, named=named)) == kind(cause)
    assert kind(raised(WeightsMismatch("w"), cause, named=True)) == kind(cause)
    assert kind(raised(WeightsMismatch("w"), cause, named=False)) == (False, False)


def test_a_fault_that_came_while_memory_was_given_back():
    error = raised(FAULTS[0], MEMORY[6], named=False)
    assert kind(error) == (False, True)
