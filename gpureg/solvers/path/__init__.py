"""The optimum along a path: λ falls, and every model begins where the last optima point to."""
