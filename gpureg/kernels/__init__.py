"""The arithmetic: its protocol, the choice among its twins, and the twins."""
