"""Builds engines for the CPU: a Hugging Face checkpoint becomes an OpenVINO folder."""
