"""The fused NumPy twin of the kernels, on threads of its own."""
