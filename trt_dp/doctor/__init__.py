"""What is installed, what this machine has, and what of trt-dp can run here."""
