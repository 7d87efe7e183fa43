"""The CPU engine: a built model, by OpenVINO."""
