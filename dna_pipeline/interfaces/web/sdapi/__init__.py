"""The API of AUTOMATIC1111's web UI, which many programs speak: `/sdapi/v1` and `/controlnet`."""
