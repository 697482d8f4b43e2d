"""TFLite artifacts on ARM kernels, under emulation."""
