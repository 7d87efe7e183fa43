import os


class CpuPlatform:
    device_type = "cpu"

    def is_cpu(self):
        return os.environ.get("VLLM_DOUBLE_PLATFORM", "cpu") == "cpu"

    def is_unspecified(self):
        return os.environ.get("VLLM_DOUBLE_PLATFORM") == "none"


current_platform = CpuPlatform()
