"""The fused NumPy twin of the kernels, on its own threads."""
